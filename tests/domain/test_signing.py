import json

from cryptography.hazmat.primitives.asymmetric import ec

from cotexd.domain import signing


def test_what_is_published_of_a_pair_says_whose_it_is_and_what_for():
    published = signing.public_of(signing.new_pair("k"))
    assert {name: published[name] for name in published if name not in {"x", "y"}} == {
        "kty": "EC",
        "crv": "P-256",
        "kid": "k",
        "alg": "ES256",
        "use": "sig",
        "key_ops": ["verify"],
    }


def test_the_private_part_is_not_published():
    pair = signing.new_pair("k")
    private = json.loads(pair.private)["d"]
    assert "d" not in signing.public_of(pair)
    assert private not in json.dumps(signing.public_of(pair))


def test_no_two_pairs_are_the_same():
    assert len({signing.public_of(signing.new_pair("k"))["x"] for _ in range(20)}) == 20


def test_a_pair_that_was_kept_as_bytes_signs_again():
    found = signing.load(signing.new_pair("k"))
    assert (found.key_id, found.algorithm_name) == ("k", "ES256")
    assert isinstance(found.key, ec.EllipticCurvePrivateKey)
