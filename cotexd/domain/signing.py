"""Signing keys of our own: P-256 pairs for ES256 (RFC 7518, 3.4), as JWKs."""

import json
from typing import Any

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm


class KeyPair(msgspec.Struct, frozen=True):
    kid: str
    private: bytes
    """JWK as JSON: a secret"""


def new_pair(kid: str) -> KeyPair:
    private = ec.generate_private_key(ec.SECP256R1())
    jwk: dict[str, Any] = json.loads(ECAlgorithm.to_jwk(private))
    return KeyPair(kid, json.dumps({**jwk, "kid": kid, "alg": "ES256", "use": "sig"}).encode())


def public_of(pair: KeyPair) -> dict[str, Any]:
    """The JWK to publish: without the private part."""
    jwk: dict[str, Any] = json.loads(pair.private)
    kept = {
        name: value for name, value in jwk.items() if name in {"kty", "crv", "x", "y", "kid", "alg", "use"}
    }
    return {**kept, "key_ops": ["verify"]}


def load(pair: KeyPair) -> jwt.PyJWK:
    """Ready to sign with, by domain.tokens."""
    return jwt.PyJWK(json.loads(pair.private))
