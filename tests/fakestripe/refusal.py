"""Stripe's errors: a status, and a body that says type, code, message and param."""

from typing import Any


class Refused(Exception):
    """An answer other than 200."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str = "",
        param: str = "",
        kind: str = "invalid_request_error",
        **headers: str,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.kind = kind
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def body(self) -> dict[str, Any]:
        error = {"message": self.message, "type": self.kind}
        if self.code:
            error["code"] = self.code
            error["doc_url"] = f"https://stripe.com/docs/error-codes/{self.code.replace('_', '-')}"
        if self.param:
            error["param"] = self.param
        return {"error": error}


def missing(noun: str, identity: str, param: str, status: int = 404) -> Refused:
    """404 where the id is in the address, 400 where it is in a parameter."""
    return Refused(status, f"No such {noun}: '{identity}'", code="resource_missing", param=param)


def invalid(message: str, param: str, code: str = "") -> Refused:
    return Refused(400, message, code=code, param=param)
