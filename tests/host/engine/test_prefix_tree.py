from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from mlxbridge.host.engine.prefixes.prefix_tree import Node, Part, PrefixTree, pack


def part(tokens: list[int], size: int = 1, content: str = "") -> Part[str]:
    return Part(pack(tokens), content, size)


def depths(tree: PrefixTree[str], scope: str, tokens: list[int], limit: int | None = None) -> list[int]:
    limit = len(tokens) if limit is None else limit
    return [node.depth for node in tree.match(scope, pack(tokens), limit)]


def test_match_follows_tokens_and_stops_where_they_differ() -> None:
    tree: PrefixTree[str] = PrefixTree(100)
    tip = tree.extend(tree.root("a"), [part([1, 2]), part([3, 4]), part([5, 6])])
    assert tip is not None and tip.depth == 6
    assert depths(tree, "a", [1, 2, 3, 4, 5, 6, 7]) == [2, 4, 6]
    assert depths(tree, "a", [1, 2, 3, 4, 9, 6]) == [2, 4]
    assert depths(tree, "a", [1, 2, 3, 4, 5, 6], limit=5) == [2, 4]
    assert depths(tree, "a", [9]) == depths(tree, "a", [1]) == []
    assert [node.run for node in tip.path()] == [pack([1, 2]), pack([3, 4]), pack([5, 6])]


def test_match_finds_runs_of_all_lengths_and_ends() -> None:
    tree: PrefixTree[str] = PrefixTree(100)
    tip = tree.extend(tree.root(""), [part([1, 2]), part([3]), part([])])
    assert tip is not None and tip.depth == 3 and not tip.is_end
    tree.extend(tip, [part([4, 5])])
    tree.extend(tree.root(""), [part([1, 2]), part([3, 4])])
    assert sorted(depths(tree, "", [1, 2, 3, 4, 5])) == [2, 3, 3, 4, 5]
    assert [node.depth for node in tree.match("", pack([1, 2, 3, 4]), 4) if node.is_end] == [3]


def test_scopes_see_nothing_of_each_other_but_share_the_budget() -> None:
    tree: PrefixTree[str] = PrefixTree(3)
    tree.extend(tree.root("a"), [part([1], 2)])
    assert depths(tree, "b", [1]) == []
    tree.extend(tree.root("b"), [part([1], 2)])
    assert depths(tree, "a", [1]) == [] and depths(tree, "b", [1]) == [1]
    assert tree.num_bytes == 2 and len(tree) == 1


def test_old_end_goes_before_what_is_used_around_it() -> None:
    tree: PrefixTree[str] = PrefixTree(8)
    first = tree.extend(tree.root(""), [part([1]), part([], 3)])
    assert first is not None
    tree.extend(first, [part([2]), part([], 3)])
    assert tree.num_bytes == 8
    tree.extend(tree.root(""), [part([9])])
    assert sorted((node.depth, node.is_end) for node in tree.match("", pack([1, 2]), 2)) == [
        (1, False),
        (2, False),
        (2, True),
    ]


def test_what_is_larger_than_the_budget_is_not_stored_and_spares_the_rest() -> None:
    tree: PrefixTree[str] = PrefixTree(5)
    tree.extend(tree.root(""), [part([1], 5)])
    assert tree.extend(tree.root(""), [part([2], 6)]) is None
    assert depths(tree, "", [1]) == [1]


def test_chain_longer_than_the_budget_keeps_its_beginning() -> None:
    tree: PrefixTree[str] = PrefixTree(2)
    assert tree.extend(tree.root(""), [part([token]) for token in range(5)]) is None
    assert depths(tree, "", [0, 1, 2, 3, 4]) == [1, 2]


def test_below_a_node_that_has_gone_nothing_is_stored() -> None:
    tree: PrefixTree[str] = PrefixTree(1)
    tip = tree.extend(tree.root(""), [part([1], content="old")])
    assert tip is not None
    tree.extend(tree.root(""), [part([2])])
    assert not tip.is_stored and tip.content is None
    assert tree.extend(tip, [part([3])]) is None
    assert len(tree) == 1


def test_first_content_stays() -> None:
    tree: PrefixTree[str] = PrefixTree(9)
    tree.extend(tree.root(""), [part([1], content="first")])
    node = tree.extend(tree.root(""), [part([1], content="second")])
    assert node is not None and node.content == "first" and tree.num_bytes == 1


def test_clear_leaves_nothing() -> None:
    tree: PrefixTree[str] = PrefixTree(9)
    root = tree.root("")
    tree.extend(root, [part([1]), part([2]), part([])])
    tree.clear()
    assert (tree.num_bytes, len(tree), depths(tree, "", [1, 2])) == (0, 0, [])
    assert tree.extend(root, [part([1])]) is not None
    assert depths(tree, "", [1]) == [1]


Path = tuple[tuple[int, ...], ...]
Runs = list[tuple[tuple[int, ...], int]]


@dataclass
class Naive:
    """Every node by its scope and runs, with the moment of its last use; what goes is looked for among all leaves."""

    budget: int
    nodes: dict[tuple[str, Path], tuple[int, int]] = field(default_factory=dict)
    clock: int = 0

    def touch(self, scope: str, path: Path) -> None:
        for length in range(len(path), 0, -1):
            key = (scope, path[:length])
            self.clock += 1
            self.nodes[key] = (self.nodes[key][0], self.clock)

    def extend(self, scope: str, path: Path, runs: Runs) -> None:
        if any(size > self.budget for _, size in runs):
            return
        for run, size in runs:
            here = (*path, run)
            self.nodes.setdefault((scope, here), (size, 0))
            if run:
                path = here
            else:
                self.touch(scope, here)
        self.touch(scope, path)
        while sum(size for size, _ in self.nodes.values()) > self.budget:
            leaves = [
                key for key in self.nodes if not any(s == key[0] and p[:-1] == key[1] for s, p in self.nodes)
            ]
            del self.nodes[min(leaves, key=lambda key: self.nodes[key][1])]

    def match(self, scope: str, tokens: tuple[int, ...]) -> set[Path]:
        found = set()
        for s, path in self.nodes:
            flat = tuple(token for run in path for token in run)
            if s == scope and tokens[: len(flat)] == flat:
                found.add(path)
        return found


runs: st.SearchStrategy[Runs] = st.lists(
    st.tuples(st.lists(st.integers(0, 1), max_size=2).map(tuple), st.integers(0, 4)), min_size=1, max_size=4
)
prompts = st.lists(st.integers(0, 1), max_size=6).map(tuple)
actions = st.lists(st.tuples(st.sampled_from("ab"), prompts, st.one_of(st.none(), runs)), max_size=25)


def path_of(node: Node[str]) -> Path:
    return tuple(tuple(run[::4]) for run in (each.run for each in node.path()))


@settings(deadline=None)
@given(st.integers(0, 12), actions)
def test_same_as_a_naive_tree(budget: int, script: list[tuple[str, tuple[int, ...], Runs | None]]) -> None:
    tree: PrefixTree[str] = PrefixTree(budget)
    naive = Naive(budget)
    for scope, tokens, more in script:
        nodes = tree.match(scope, pack(tokens), len(tokens))
        assert {path_of(node) for node in nodes} == naive.match(scope, tokens)
        below = [node for node in nodes if not node.is_end]
        chosen = max(below, key=path_of, default=tree.root(scope))
        if more is None:
            tree.touch(chosen)
            naive.touch(scope, path_of(chosen))
        else:
            naive.extend(scope, path_of(chosen), more)
            tree.extend(chosen, [Part(pack(run), "", size) for run, size in more])
        assert tree.num_bytes == sum(size for size, _ in naive.nodes.values()) <= budget
        assert len(tree) == len(naive.nodes)
