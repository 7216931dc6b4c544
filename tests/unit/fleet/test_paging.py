"""Lists in pages."""

from __future__ import annotations

from fleet.coordinator.paging import page


def collected(names: set[str], limit: int, wanted: str = "") -> list[str]:
    found: list[str] = []
    after: str | None = ""
    while after is not None:
        items, after = page(names, after, limit, lambda name: name if wanted in name else None)
        assert len(items) <= limit
        assert items or not found or after is None
        found += items
    return found


def test_every_name_is_on_one_page() -> None:
    names = {f"t{number:03}" for number in range(25)}
    for limit in (1, 4, 24, 25, 26, 500):
        assert collected(names, limit) == sorted(names)
        assert collected(names, limit, "7") == sorted(name for name in names if "7" in name)
    assert collected(set(), 10) == []


def test_who_comes_and_goes_shifts_nobody_else() -> None:
    names = {"a", "c", "e", "g"}
    items, after = page(names, "", 2, str)
    assert (items, after) == (["a", "c"], "c")
    # The last one that was given is gone, one before it has come, and one after it.
    items, after = page((names | {"b", "d"}) - {"c"}, after or "", 2, str)
    assert (items, after) == (["d", "e"], "e")
    assert page(names, after or "", 2, str) == (["g"], None)


def test_no_more_are_looked_at_than_it_takes() -> None:
    looked: list[str] = []

    def view(name: str) -> str:
        looked.append(name)
        return name

    page([f"t{number:05}" for number in range(10_000)], "t00100", 50, view)
    assert looked == [f"t{number:05}" for number in range(101, 151)]
