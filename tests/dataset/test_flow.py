"""What prepare says of a prepared cohort."""

import logging

from sacro_ray.dataset.completion import FLOW, log_flow
from sacro_ray.dataset.manifest import SCHEMA_VERSION, Excluded, Manifest, Split


def test_the_table_of_a_large_cohort_fits_80_columns(caplog):
    counts = dict(zip(FLOW, range(1_000_001, 1_000_001 + len(FLOW)), strict=True))
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        cohort="proof",
        role="development",
        simulated=False,
        received=2_000_000,
        splits={name: Split(**counts, shards=[]) for name in ("train", "validation")},
        excluded=[Excluded(radiograph_id="a", reason="duplicate")],
        settings={},
        inputs={},
    )
    with caplog.at_level(logging.INFO, logger="sacro_ray"):
        log_flow(manifest)
    title, reason, heads, *rows = caplog.records[0].message.split("\n")
    assert title == "proof: 2000000 radiographs received, 1 excluded"
    assert reason.split()[:2] == ["duplicate", "1"]
    assert heads.split() == ["train", "validation"]
    assert [row.split() for row in rows] == [[name, str(count), str(count)] for name, count in counts.items()]
    assert max(map(len, [title, heads, *rows])) <= 80
