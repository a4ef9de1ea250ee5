"""Versions, tokens and proofs."""

import hashlib
import hmac
from typing import Any

import pytest

from mlxbridge.errors import (
    AuthenticationError,
    HandshakeTimeout,
    RemoteProtocolError,
    Unavailable,
    UsageError,
    VersionMismatch,
)
from mlxbridge.protocol import Token, parse_token
from mlxbridge.protocol.codec import decode
from mlxbridge.protocol.connection import Connection
from mlxbridge.protocol.events import Closed, Ready
from mlxbridge.protocol.frames import MAGIC, FrameType
from mlxbridge.protocol.handshake import choose_version, decoy_secret, guest_auth, guest_proof, host_proof
from tests.helpers.wire import (
    GUEST_NONCE,
    HOST_NONCE,
    SECRET,
    frame,
    frames_in,
    kinds_in,
    make_guest,
    make_host,
    make_pair,
    make_pair_with_token,
    pump,
    unsent,
)


def closed_with(end: Connection) -> Any:
    (event,) = end.events()
    assert isinstance(event, Closed), event
    return event.error


# -- versions


@pytest.mark.parametrize("versions", [[1, 1], [0, 1], [1, 9], [-5, 100]])
def test_version_in_common_is_chosen(versions: list[int]) -> None:
    assert choose_version({"versions": versions}) == 1


@pytest.mark.parametrize("versions", [[2, 7], [0, 0], [5, 3], [-9, -1]])
def test_no_version_in_common_names_both_ranges(versions: list[int]) -> None:
    with pytest.raises(VersionMismatch, match=f"{versions[0]} to {versions[1]}, the host 1 to 1"):
        choose_version({"versions": versions})


@pytest.mark.parametrize("versions", [None, 1, [1], [1, 1, 1], [1.0, 1.0], [True, True], ["1", "1"], {}])
def test_versions_of_a_wrong_shape_are_refused(versions: Any) -> None:
    with pytest.raises(RemoteProtocolError):
        choose_version({"versions": versions})


def test_guest_of_another_version_reads_why_it_is_refused() -> None:
    guest, host = make_guest(), make_host()
    _, (_, _, _, hello, _) = b"", next(frames_in(unsent(guest)))
    host.receive_data(MAGIC + frame(FrameType.HELLO, 0, {**decode(hello), "versions": [2, 3]}))
    assert isinstance(closed_with(host), VersionMismatch)
    guest.receive_data(unsent(host))
    assert isinstance(closed_with(guest), VersionMismatch)


# -- tokens


@pytest.mark.parametrize(
    ("text", "token"),
    [
        ("alice:correct horse", Token("alice", b"correct horse")),
        ("correct horse\n", Token("default", b"correct horse")),
        ("alice:a:b:c:d:e:f", Token("alice", b"a:b:c:d:e:f")),
        ("bürö:pässwört", Token("bürö", "pässwört".encode())),
    ],
)
def test_token_is_read(text: str, token: Token) -> None:
    assert parse_token(text) == token


@pytest.mark.parametrize(
    "text", ["", "short", "alice:short", ":longenough", "a\nb:longenough", "a" * 65 + ":longenough"]
)
def test_token_that_is_no_good_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_token(text)


def test_token_does_not_print_its_secret() -> None:
    assert "horse" not in repr(parse_token("alice:correct horse"))


# -- proofs


def test_proofs_are_what_the_specification_says() -> None:
    message = hashlib.sha256(b"G").digest() + hashlib.sha256(b"H").digest()
    for proof, label in ((guest_proof, b"mlxbridge guest proof"), (host_proof, b"mlxbridge host proof")):
        assert proof(SECRET, b"G", b"H") == hmac.new(SECRET, label + message, "sha256").digest()


def test_both_prove_the_token_and_the_host_goes_first() -> None:
    guest, host = make_guest(token=Token("alice", SECRET)), make_host(tokens={"alice": SECRET})
    hello = unsent(guest)
    host.receive_data(hello)
    answer = unsent(host)
    assert kinds_in(answer) == ["HELLO"] and host.events() == []
    (_, _, _, guest_head, _), (_, _, _, host_head, proof) = *frames_in(hello), *frames_in(answer)
    assert proof == host_proof(SECRET, guest_head, host_head)
    guest.receive_data(answer)
    auth = unsent(guest)
    assert list(frames_in(auth)) == [(FrameType.AUTH, 0, 0, b"", guest_proof(SECRET, guest_head, host_head))]
    host.receive_data(auth)
    guest.receive_data(unsent(host))
    for end in (guest, host):
        (ready,) = end.events()
        assert isinstance(ready, Ready) and ready.identity == "alice"
        assert end.ready and not end.handshaking
    assert SECRET not in hello + answer + auth


@pytest.mark.parametrize(
    "secret", [HOST_NONCE, GUEST_NONCE, b"", decoy_secret({"alice": SECRET}, "mallory"), SECRET]
)
def test_unknown_name_is_refused_whatever_it_proves(secret: bytes) -> None:
    """Once, the host's nonce, which it had just sent, was the secret of every unknown name."""
    guest = make_guest(token=Token("mallory", b"x" * 8))
    host = make_host(tokens={"alice": SECRET})
    hello = unsent(guest)
    host.receive_data(hello)
    heads = [head for data in (hello, unsent(host)) for _, _, _, head, _ in frames_in(data)]
    host.receive_data(frame(FrameType.AUTH, 0, None, guest_proof(secret, heads[0], heads[1])))
    assert isinstance(closed_with(host), AuthenticationError) and not host.ready


def test_unknown_name_gets_a_proof_like_any_other() -> None:
    proofs = set()
    for name in ("alice", "mallory", "trent"):
        guest, host = make_guest(token=Token(name, b"x" * 8)), make_host(tokens={"alice": SECRET})
        host.receive_data(unsent(guest))
        ((_, _, _, _, proof),) = frames_in(unsent(host))
        assert len(proof) == 32
        proofs.add(proof)
    assert len(proofs) == 3


def test_proof_fits_one_connection_only() -> None:
    token = Token("alice", SECRET)
    first, host = make_guest(token=token), make_host(tokens={"alice": SECRET})
    host.receive_data(unsent(first))
    first.receive_data(unsent(host))
    auth = unsent(first)
    replayed = make_host(tokens={"alice": SECRET}, nonce=bytes(32))
    replayed.receive_data(unsent(make_guest(token=token)))
    replayed.receive_data(auth)
    assert isinstance(closed_with(replayed), AuthenticationError)


def test_guest_sees_a_host_that_cannot_prove_the_token() -> None:
    guest, host = make_guest(token=Token("alice", SECRET)), make_host(tokens={"alice": b"another secret"})
    host.receive_data(unsent(guest))
    guest.receive_data(unsent(host))
    assert isinstance(closed_with(guest), AuthenticationError)
    assert kinds_in(unsent(guest)) == ["GOAWAY"], "no proof for a host that is not ours"


@pytest.mark.parametrize(
    ("token", "tokens"), [(None, {"default": SECRET}), (Token("alice", SECRET), None), (None, {})]
)
def test_token_on_one_side_only_is_refused(token: Token | None, tokens: dict[str, bytes] | None) -> None:
    guest, host = make_guest(token=token), make_host(tokens=tokens)
    host.receive_data(unsent(guest))
    guest.receive_data(unsent(host))
    assert isinstance(closed_with(guest), AuthenticationError)


@pytest.mark.parametrize("identity", [1, None, "x" * 65, b"alice"])
def test_identity_of_a_wrong_shape_is_refused(identity: Any) -> None:
    (_, _, _, hello, _) = next(frames_in(unsent(make_guest())))
    host = make_host(tokens={"alice": SECRET})
    host.receive_data(MAGIC + frame(FrameType.HELLO, 0, {**decode(hello), "identity": identity}))
    assert isinstance(closed_with(host), RemoteProtocolError)


@pytest.mark.parametrize("auth", [None, 1, ["none"], "kerberos"])
def test_unknown_kind_of_proof_is_refused(auth: Any) -> None:
    with pytest.raises(RemoteProtocolError):
        guest_auth({"auth": auth}, Token("alice", SECRET))


# -- what the HELLOs tell


def test_peers_know_each_other() -> None:
    guest, host = make_pair(guest={"passive": True, "features": frozenset({"a", "b"}), "software": "s" * 300})
    assert host.peer is not None and guest.peer is not None
    assert host.peer.passive and not guest.peer.passive
    assert host.peer.features == {"a", "b"} and guest.peer.features == frozenset()
    assert host.peer.software == "s" * 200 and guest.peer.software == "host/1"
    assert host.peer.limits == guest.limits and guest.peer.version == 1


def test_identity_of_ready_that_is_no_text_is_none() -> None:
    guest, host = make_guest(), make_host()
    host.receive_data(unsent(guest))
    guest.receive_data(unsent(host)[: -len(frame(FrameType.READY, 0, {}))])
    guest.receive_data(frame(FrameType.READY, 0, {"identity": 3}))
    (ready,) = guest.events()
    assert isinstance(ready, Ready) and ready.identity is None


@pytest.mark.parametrize("with_token", [False, True])
def test_handshake_twice_on_one_connection_is_refused(with_token: bool) -> None:
    guest, host = make_pair_with_token() if with_token else make_pair()
    host.receive_data(unsent(make_guest())[len(MAGIC) :])
    assert isinstance(closed_with(host), RemoteProtocolError)


def test_host_that_goes_away_during_the_handshake_says_so() -> None:
    guest, host = make_guest(), make_host()
    host.go_away("restarting", 5000)
    assert isinstance(closed_with(host), Unavailable)
    guest.receive_data(unsent(host))
    error = closed_with(guest)
    assert isinstance(error, Unavailable) and error.retryable and error.message == "restarting"


def test_owner_can_give_up_on_a_silent_peer_in_any_state() -> None:
    for end in (make_guest(), make_host()):
        assert end.handshaking and not end.ready
        end.close(HandshakeTimeout("no HELLO"))
        assert isinstance(closed_with(end), HandshakeTimeout)
        assert "GOAWAY" in kinds_in(unsent(end))


def test_handshake_waits_while_the_transport_is_full() -> None:
    guest, host = make_guest(), make_host()
    guest.pause()
    assert guest.data_to_send() == [] and guest.has_unsent
    guest.resume()
    pump(guest, host)
    assert guest.ready and host.ready
