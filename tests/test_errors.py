import pytest

from cotexd import errors
from cotexd.errors import BadSignature, CotexError, Kind


def catalogue(of: type[CotexError] = CotexError) -> list[type[CotexError]]:
    return [each for child in of.__subclasses__() for each in (child, *catalogue(child))]


def test_every_code_means_one_kind_of_error():
    kinds = {(error.code, error.kind) for error in catalogue()}
    assert len(kinds) == len({code for code, _ in kinds})


def test_every_kind_has_an_error():
    assert {error.kind for error in catalogue()} == set(Kind)


# Those with an __init__ of their own have words of their own too.
@pytest.mark.parametrize(
    "error", [each for each in catalogue() if "__init__" not in vars(each)], ids=lambda error: error.__name__
)
def test_an_error_says_what_happened_and_what_to_do(error: type[CotexError]):
    refused = error("It is so.", hint="Do this.")
    assert (str(refused), refused.message, refused.hint) == ("It is so.", "It is so.", "Do this.")
    assert error("It is so.").hint == ""


def test_a_special_refusal_is_of_the_kind_of_the_general_one():
    assert errors.OverLimit.kind is errors.RepoPaused.kind is Kind.FORBIDDEN
    assert errors.InvalidCursor.kind is errors.InvalidPayload.kind is Kind.INVALID


def test_a_bad_signature_says_the_same_whatever_was_wrong():
    assert str(BadSignature()) == str(BadSignature())
    with pytest.raises(TypeError):
        BadSignature("there is no such repository")
