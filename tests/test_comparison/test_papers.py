import pytest

from kdsr.comparison.papers import paper_table
from kdsr.comparison.report import format_report, make_sections
from kdsr.comparison.summary import summarise
from tests.helpers.comparisons import comparison, trained

EDSR = {
    'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 64, 'num_block': 16, 'upscale': 2, 'res_scale': 1,
}  # fmt: skip


@pytest.fixture
def summary(workspace):
    """A plain EDSR-baseline x2 on a set called Set5, one seed finished of two."""
    opt = workspace.options()
    validation = {**opt['datasets']['val'], 'name': 'Set5'}
    plan = comparison(
        workspace, {'plain': {'title': 'alone'}, 'small': {'network_g': {**EDSR, 'num_block': 3}}}, seeds=[0, 1],
        common={'base': 'base.yml', 'network_g': EDSR, 'datasets': {'val': validation}},
    )  # fmt: skip
    trained(workspace, plan.of('plain')[0], 36.5)
    return plan


def test_rows_stand_beside_the_runs_that_are_comparable(workspace, summary):
    table = paper_table(summarise(summary))
    assert table.head == ('run', 'row', 'metric', 'Set5', 'differs here')
    found = {row[1]: (row[0], row[3]) for row in table.rows}
    assert found['LSFD, Table 3: Student'][0] == 'alone'
    assert set(found) == {'LSFD, Table 3: Student', 'FACD, Table 2: Student', 'MTKD, Table 3: Compact'}
    assert found['FACD, Table 2: Student'][1].startswith('37.919 (')
    assert 'photos instead of DIV2K' in table.rows[0][-1]
    assert '40 iterations instead of 300,000' in table.rows[0][-1]


def test_the_report_has_them(workspace, summary):
    found = summarise(summary)
    assert "## The papers' rows" in format_report(found, make_sections(found, ''))


def test_other_networks_and_metrics_have_no_rows(workspace):
    assert paper_table(summarise(comparison(workspace))) is None
