import pytest

from docs.studies.steganography.sweep_rows import Point, Run, by_setting, joined, read_points, sweep_rows, write_point


def point(seed, fve, half=0.02, steps=5):
    return Point(Run(seed, 10, 0.1, False), steps, {"fve": (fve, fve - half, fve + half)})


def test_points_are_read_as_written_and_once(tmp_path):
    path = tmp_path / "points.jsonl"
    write_point(path, point(0, 0.5))
    path.write_text(path.read_text() + '{"run": {"seed"\n')  # a crash while writing
    write_point(path, point(0, 0.9))  # measured a second time by another process
    write_point(path, point(1, 0.7))
    assert read_points(path) == [point(0, 0.5), point(1, 0.7)]
    assert read_points(tmp_path / "none.jsonl") == []


def test_seeds_are_joined_with_the_noise_of_both_kinds():
    assert joined([point(0, 0.5)], "fve").low == pytest.approx(0.48)
    equal = joined([point(0, 0.5), point(1, 0.5)], "fve")
    assert equal.low == pytest.approx(0.48)  # the same documents: more seeds do not make them more
    apart = joined([point(0, 0.4), point(1, 0.6)], "fve")
    assert (apart.value, apart.n) == (pytest.approx(0.5), 2)
    assert 0.5 - apart.low == pytest.approx((0.02**2 + 1.96**2 * 0.01) ** 0.5)
    assert joined([point(0, 0.5)], "legibility") is None


def test_rows_name_the_setting_and_number_the_seeds():
    rows = sweep_rows([point(0, 0.5), point(1, 0.7), point(0, 0.1, steps=0)])
    named = {(row.arm, row.metric): (row.value, row.n) for row in rows}
    assert named == {
        ("explanation", "fve/warm_10_kl_0.1_rate_0.0001_steps_5"): (pytest.approx(0.6), 2),
        ("warm_start", "fve/warm_10_kl_0.1_rate_0.0001_steps_0"): (pytest.approx(0.1), 1),
    }
    assert Run(0, 10, 0.1, True).setting().endswith("_paraphrased")
    assert len(by_setting([point(0, 0.5), Point(Run(0, 10, 0.1, True), 5)])) == 2
