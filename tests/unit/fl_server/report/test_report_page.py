"""report.html is one file that fetches nothing, escapes what it was told, and stands for runs of every shape."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from fl_core.errors import RunFolderError
from fl_core.runlog import RunLog
from fl_server.report.build import build_report
from fl_server.report.privacy_words import SIMULATED_NOISE, SIMULATION_ONLY, TUNING, model_sentence
from fl_server.report.summary import write_summary
from support.synthetic_run import UNIT, write_run

FETCHING = {"src", "href", "data", "action", "poster", "srcset", "xlink:href"}
VOID = {"meta", "br", "hr"}


class Page(HTMLParser):
    """Tags, attributes that fetch, and whether every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.fetches: list[tuple[str, str | None]] = []
        self.unnamed_charts = 0
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetches += [(name, value) for name, value in attrs if name in FETCHING]
        named = dict(attrs)
        if tag == "svg" and not (named.get("aria-label") or named.get("aria-hidden")):
            self.unnamed_charts += 1
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetches += [(name, value) for name, value in attrs if name in FETCHING]

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag


def text_of(folder: Path) -> str:
    return build_report(folder).read_text(encoding="utf-8")


SHAPES: list[dict[str, object]] = [
    {},
    {"clients": 1, "rounds": 1},
    {"rounds": 0, "finished": False},
    {"private": False},
    {"private": False, "test_set": False, "finished": False},
    {"test_set": False},
    {"clients": 100, "rounds": 60, "mishaps": True},
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_run_of_any_shape_gives_a_whole_page_that_fetches_nothing(tmp_path: Path, shape: dict[str, object]) -> None:
    text = text_of(write_run(tmp_path, **shape))
    page = Page(text)
    assert page.open == []
    assert page.fetches == []
    assert page.unnamed_charts == 0
    assert not {"script", "link", "img", "iframe", "object", "embed"} & set(page.tags)
    assert "http" not in re.sub(r'http-equiv|xmlns="http://www.w3.org/2000/svg"', "", text)
    assert "url(" not in text
    assert "@import" not in text
    assert "None" not in text
    assert "nan" not in re.findall(r'points="([^"]*)"', text)


def test_a_private_run_says_in_plain_words_what_is_promised_and_what_is_not(tmp_path: Path) -> None:
    text = text_of(write_run(tmp_path))
    for words in (UNIT.removeprefix("a "), "a whole recording", "1e-05", "rdp", SIMULATED_NOISE, TUNING):
        assert words in text


def test_a_run_without_dp_promises_nothing(tmp_path: Path) -> None:
    text = text_of(write_run(tmp_path, private=False))
    assert "no differential privacy" in text
    assert SIMULATED_NOISE not in text


def test_per_client_figures_name_the_worst_and_are_marked_as_simulation_only(tmp_path: Path) -> None:
    text = text_of(write_run(tmp_path, clients=5))
    assert SIMULATION_ONLY in text
    assert "Worst: person 5" in text


def test_names_and_reasons_are_escaped(tmp_path: Path) -> None:
    attack = '<script>alert("x")</script>'
    text = text_of(write_run(tmp_path, first_client=attack))
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_what_was_left_out_stands_with_its_reason(tmp_path: Path) -> None:
    text = text_of(write_run(tmp_path, mishaps=True))
    assert "update from person 2: expected finite values, got NaN" in text
    assert "top-1 agreement: expected at least 0.99, got 0.42" in text


def test_the_run_beside_is_drawn_beside(tmp_path: Path) -> None:
    other = write_run(tmp_path / "beside" / "without_privacy", name="without_privacy", private=False)
    write_summary(other, seconds=2.5, peak_rss_mb=1.0)
    text = text_of(write_run(tmp_path))
    assert "without_privacy (beside, int8 in its runtime)" in text
    assert "without_privacy (beside)<small>imu_cnn</small></td>" in text


def test_what_is_found_in_a_run_beside_stands_on_the_page_with_its_name(tmp_path: Path) -> None:
    flat = write_run(tmp_path / "companion" / "flat", name="flat", private=False)
    path = flat / "events.jsonl"
    path.write_text(re.sub(r'"accuracy_(float|fake_quant)": [0-9.]+', r'"accuracy_\1": 0.1', path.read_text()))
    path.write_text(re.sub(r'"accuracy_int8": [0-9.]+', '"accuracy_int8": 0.1', path.read_text()))
    text = text_of(write_run(tmp_path))
    assert "<li>flat (beside), <b>not learning</b>: no round was better than chance among 2 classes" in text


def test_what_ranges_cut_off_stands_layer_by_layer(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", rounds=1, finished=False)
    log = RunLog(folder, "run")
    log.append("round_started", 2, cohort=[])
    figures = {"accepted": 0, "rejected": 0, "uplink_bytes": 0, "downlink_bytes": 0, "seconds": 1.0}
    log.append("round_finished", 2, **figures, epsilon_max=None, evaluation=None, clipped={"conv": 0.323, "last": 0.0})
    log.close()
    page = build_report(folder).read_text(encoding="utf-8")
    assert re.search(r"<td class=.name.>conv</td><td>32\.30 %</td>", page)
    assert "layer conv: 32 % of its values lie beyond its range" in page
    assert "What the ranges cut off" not in build_report(write_run(tmp_path / "other")).read_text(encoding="utf-8")


def test_six_groups_are_rows_below_each_other(tmp_path: Path) -> None:
    groups = {f"person {number}": 0.5 for number in range(6)}
    path = write_run(tmp_path) / "events.jsonl"
    path.write_text(
        path.read_text().replace('"groups": {"person 9"', f'"groups": {json.dumps(groups)[:-1]}, "person 9"')
    )
    rows = re.findall(r'<tr><td class="name">(person \d)</td><td>', text_of(tmp_path))
    assert rows == [*groups, "person 9"]


def test_runs_that_train_different_models_are_not_compared_silently(tmp_path: Path) -> None:
    write_run(tmp_path / "beside" / "without_privacy", name="without_privacy", private=False)
    assert model_sentence(["imu_bank", "imu_cnn"]) in text_of(write_run(tmp_path)).replace("&#39;", "'")
    same = write_run(tmp_path / "same")
    write_run(same / "beside" / "again", name="again")
    assert "different models" not in text_of(same)
    assert "model imu_bank" in text_of(same)


def test_a_run_that_stopped_before_its_first_event_has_a_page(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").touch()
    page = Page(text_of(tmp_path))
    assert page.open == []


def test_the_same_run_gives_the_same_page(tmp_path: Path) -> None:
    folder = write_run(tmp_path)
    assert text_of(folder) == text_of(folder)


def test_a_folder_without_events_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="expected a run folder"):
        build_report(tmp_path)
