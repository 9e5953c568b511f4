"""A finding survives the way through an event, and says its topic first."""

import json

from fl_core.findings import Finding


def test_a_finding_is_equal_after_the_way_through_json() -> None:
    finding = Finding("input range", "client a: 46 % of its inputs lie outside -1 to 1; scale them")
    assert Finding.of(json.loads(json.dumps(finding.to_plain()))) == finding
    assert str(finding) == "input range: client a: 46 % of its inputs lie outside -1 to 1; scale them"
