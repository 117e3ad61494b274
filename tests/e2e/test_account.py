"""Whoever ends, client, child, master or supervisor: the log tells what became of each file."""

from __future__ import annotations

import re

SIZE = 64 << 20
PIECE = 4 << 20


def fields(line: str) -> dict[str, str]:
    return dict(re.findall(r" (\w+)=(\S+)", line))


def test_a_fetch_in_pieces_that_is_killed_is_not_told_as_ok(serve, root, begin, place, eventually):
    with open(root / "large", "wb") as file:
        file.truncate(SIZE)
    server = serve()
    run = begin(server, "--limit-rate", "8M", "large")

    def written() -> int:
        return sum(each.stat().st_blocks * 512 for each in place.rglob("*") if each.is_file())

    eventually(lambda: written() > PIECE, "some pieces have come")
    run.process.kill()
    line = fields(server.wait_for(" end "))
    # Where nothing was on its way when it died the connection was closed, and not reset.
    assert line["outcome"] in ("peer-gone", "partial")
    assert (line["offset"], line["size"]) == ("0", str(SIZE))
    assert PIECE <= int(line["sent"]) < SIZE
    assert f" cause={'peer-gone' if line['outcome'] == 'peer-gone' else 'done'} " in server.wait_for(" receipt ")


def test_the_lines_of_a_file_that_came_over_several_connections_add_up_to_it(serve, root, fsget):
    (root / "large").write_bytes(bytes(range(256)) * (SIZE // 256))
    server = serve()
    assert fsget(server, "-j", "4", "large").status == 0
    server.quiet()
    lines = [fields(line) for line in server.log(" end ") if " request=GET " in line]
    assert sum(int(line["sent"]) for line in lines) == SIZE
    assert {line["size"] for line in lines} == {str(SIZE)}
    assert {line["outcome"] for line in lines} <= {"ok", "partial"}
    spans = sorted((int(line["offset"]), line["outcome"]) for line in lines)
    assert spans[0][0] == 0
    assert [outcome for _, outcome in spans].count("ok") == 1, "one of them reached the end of the file"
