from __future__ import annotations

import pytest

from mlxbridge.host.engine.prefixes.part_names import PartIndex, PartName, digest_below, name_of, root_digest
from mlxbridge.host.engine.prefixes.prefix_tree import Part, PrefixTree, pack

KEY = bytes(range(32))


def chain(scope: str, *runs: list[int], key: bytes = KEY) -> list[PartName]:
    """The names of parts that lie below each other; an end, which has an empty run, has none below it."""
    names: list[PartName] = []
    parent = root_digest(key, scope)
    for run in runs:
        names.append(PartName(parent, digest_below(key, parent, pack(run)), len(run)))
        parent = names[-1].digest if run else parent
    return names


def index_of(*names: PartName) -> PartIndex:
    index = PartIndex(KEY)
    index.replace(names)
    return index


def test_name_is_read_back_and_nothing_else_is_a_name() -> None:
    (name,) = chain("somebody", [1, 2, 3])
    assert PartName.parse(str(name)) == name
    for text in ("lock", "key", str(name)[1:], f"{name}x", f"{name}\n", str(name).upper(), ""):
        assert PartName.parse(text) is None, text


def test_names_tell_scopes_runs_cuts_and_keys_apart() -> None:
    chains = [
        chain("a", [1, 2], [3]),
        chain("b", [1, 2], [3]),
        chain("a", [1], [2, 3]),
        chain("a", [1, 2, 3]),
        chain("a", [1, 2], []),
        chain("a", [1, 2], [3], key=bytes(32)),
    ]
    digests = [names[-1].digest for names in chains]
    assert len(set(digests)) == len(digests)
    assert chain("a", [1, 2], [3]) == chains[0]
    assert root_digest(KEY, "a") != digest_below(KEY, b"a", b"")


def test_path_is_the_longest_that_is_there_without_a_gap() -> None:
    names = chain("", [1, 2], [3, 4], [5, 6])
    tokens = pack([1, 2, 3, 4, 5, 6, 7])
    assert index_of(*names).path("", tokens, can_cut=True) == names
    assert index_of(names[0], names[2]).path("", tokens, can_cut=True) == names[:1]
    assert index_of(*names).path("", pack([1, 2, 3, 4, 5]), can_cut=True) == names[:2]
    assert index_of(*names).path("", pack([1, 9, 3, 4]), can_cut=True) == []
    assert index_of(*names).path("other", tokens, can_cut=True) == []


def test_path_of_what_cannot_be_cut_leads_to_the_deepest_end() -> None:
    first, second = chain("", [1, 2], [3], []), chain("", [1, 2], [3, 4], [5, 6], [])
    index = index_of(*first, *second[:3], *chain("", [1, 2], [])[1:])
    assert index.path("", pack([1, 2, 3, 4, 5, 6]), can_cut=False) == first
    assert index.path("", pack([1, 2, 9]), can_cut=False) == chain("", [1, 2], [])
    index.add(second[3])
    assert index.path("", pack([1, 2, 3, 4, 5, 6]), can_cut=False) == second
    assert index.path("", pack([1]), can_cut=False) == []


def test_part_that_has_gone_hides_what_is_below_until_it_is_back() -> None:
    names = chain("", [1, 2], [3, 4])
    index, tokens = index_of(*names), pack([1, 2, 3, 4])
    index.remove(names[0])
    index.remove(names[0])
    assert index.path("", tokens, can_cut=True) == [] and names[0].digest not in index
    index.add(names[0])
    assert index.path("", tokens, can_cut=True) == names


@pytest.mark.parametrize("can_cut", [True, False])
def test_index_knows_what_it_is_told_last(can_cut: bool) -> None:
    names, others = chain("", [1], []), chain("", [2], [])
    index = index_of(*names)
    index.replace(others)
    assert len(index) == 2
    assert index.path("", pack([1]), can_cut=can_cut) == []
    assert others[0].digest in index


def test_node_of_the_tree_has_the_name_that_its_prompt_leads_to() -> None:
    tree: PrefixTree[str] = PrefixTree(9)
    parts = [Part(pack(run), "", 1) for run in ([1, 2], [3], [])]
    tip = tree.extend(tree.root("anna"), parts)
    assert tip is not None
    end = tip.child(b"")
    assert end is not None
    for _ in range(2):
        assert [name_of(KEY, node) for node in (*tip.path(), end)] == chain("anna", [1, 2], [3], [])
