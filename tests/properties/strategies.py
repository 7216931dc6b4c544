"""Programs at random, nasty ones more often than not."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.properties.programs import Node, Program

ticks = st.integers(0, 4)
maybe_ticks = st.one_of(ticks, st.none())
#: More than the attempts that a step has fail it for good; -1 does so at once.
fails = st.sampled_from([0, 0, 0, 1, 2, 3, -1])


def _node(what: str, *arguments: st.SearchStrategy[object]) -> st.SearchStrategy[Node]:
    return st.tuples(st.just(what), *arguments).map(list)


leaves = st.one_of(
    _node("step", st.sampled_from(["async", "slow", "plain", "table"]), fails),
    _node("step", st.sampled_from(["async", "table"]), fails),
    _node("sleep", ticks),
    _node("receive", st.sampled_from(["go", "stop"]), maybe_ticks),
    _node("until", st.integers(1, 4), maybe_ticks),
    _node("external", maybe_ticks),
    _node("publish", st.integers(1, 3)),
    _node("count"),
    _node("chance"),
    _node("patched", st.sampled_from(["a", "b"])),
    _node("fail"),
    _node("quit"),
    _node("again"),
    _node("pass"),
)


def _made_of(nodes: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    several = st.lists(nodes, min_size=2, max_size=3)
    at_once = ["gather", "all", "group", "first", "race", "completed"]
    return st.one_of(
        several.map(lambda found: ["seq", *found]),
        st.tuples(st.sampled_from(at_once), several).map(lambda found: [found[0], *found[1]]),
        st.tuples(st.sampled_from(at_once), several).map(lambda found: [found[0], *found[1]]),
        _node("timeout", ticks, nodes),
        _node("wait_for", ticks, nodes),
        _node("try", nodes, nodes),
        _node("finally", nodes, nodes),
        _node("swallow", nodes),
        _node("shield", nodes),
        _node("spawn", nodes),
        _node("locked", nodes),
        _node(
            "child",
            nodes,
            st.sampled_from(
                ["attached", "detached", "left", "cancelled", "queued", "strict", "same id"]
            ),
        ),
    )


bodies = st.recursive(leaves, _made_of, max_leaves=9)
moments = st.integers(0, 8)
targets = st.integers(0, 3)
_signals = st.one_of(
    st.tuples(st.sampled_from(["go", "stop"]), st.integers(0, 2)),
    st.tuples(st.just("poke"), st.integers(1, 2)),
    st.tuples(st.just("work"), ticks),
)
#: What can be done again, after a crash before its answer, without doing more.
messages = st.one_of(
    st.tuples(moments, _signals, targets).map(lambda it: [it[0], "signal", *it[1], it[2]]),
    st.tuples(moments, _signals, targets).map(lambda it: [it[0], "signal", *it[1], it[2]]),
    st.tuples(
        moments,
        st.one_of(
            st.tuples(st.just("add"), st.integers(-1, 2)), st.tuples(st.just("labour"), ticks)
        ),
        targets,
    ).map(lambda it: [it[0], "update", *it[1], it[2]]),
    st.tuples(moments, st.just("query"), targets).map(list),
    st.tuples(moments, st.just("cancel"), targets).map(list),
    st.tuples(moments, st.just("pause"), targets).map(list),
    st.tuples(moments, st.just("resume"), targets).map(list),
    st.tuples(moments, st.just("terminate"), targets).map(list),
    st.tuples(moments, st.just("complete"), st.integers(0, 9)).map(list),
    st.tuples(moments, st.just("stop_queue")).map(list),
    st.tuples(moments, st.just("start_queue")).map(list),
)
again = st.one_of(
    st.tuples(moments, st.just("retry"), targets).map(list),
    st.tuples(
        moments, st.just("reuse"), st.sampled_from(["if_failed", "if_closed", "terminate"])
    ).map(list),
)
workflows = st.sampled_from(["program", "program", "strict", "queued"])


def _in_order(outside: list[Node]) -> list[Node]:
    return sorted(outside, key=lambda action: int(action[0]))


#: Programs that can end in one way only.
apart = st.builds(
    Program,
    body=bodies,
    outside=st.lists(messages, max_size=5).map(_in_order),
    apart=st.just(True),
    workflow=workflows,
)
#: Programs in which everything meets everything.
together = st.builds(
    Program,
    body=bodies,
    outside=st.lists(st.one_of(messages, messages, again), max_size=6).map(_in_order),
    apart=st.just(False),
    workflow=workflows,
)
