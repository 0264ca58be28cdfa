"""`kdsr options`."""

import pytest

from kdsr import options
from kdsr.cli import main
from kdsr.errors import UserError
from kdsr.options.shipped import copy_shipped, find_shipped_folder, list_shipped


def test_every_option_file_is_listed_with_what_it_is_for():
    lines = list_shipped().splitlines()
    assert len(lines) == len(list(find_shipped_folder().rglob('*.yml')))
    assert all(len(line.split(maxsplit=1)) == 2 for line in lines), [li for li in lines if len(li.split()) < 2]
    assert any(line.startswith('mtkd_swinir_x4.yml ') and 'MTKD' in line for line in lines)


def test_copies_bring_what_they_are_based_on(tmp_path, capsys):
    main(['options', 'comparisons/mtkd/at_edsr_x4', '--copy', str(tmp_path / 'mine')])
    told = capsys.readouterr().out.split()
    assert str(tmp_path / 'mine' / 'mtkd_edsr_x4.yml') in told or len(told) > 1
    copied, own = (
        options.load(f'{f}/comparisons/mtkd/at_edsr_x4.yml') for f in (tmp_path / 'mine', find_shipped_folder())
    )
    assert copied == own
    copy_shipped(['comparisons/mtkd/at_edsr_x4.yml'], str(tmp_path / 'mine'))  # the same again is no harm
    (tmp_path / 'mine' / 'comparisons' / 'mtkd' / 'at_edsr_x4.yml').write_text('name: edited\n')
    with pytest.raises(UserError, match='differs: nothing was copied'):
        copy_shipped(['comparisons/mtkd/at_edsr_x4'], str(tmp_path / 'mine'))


def test_a_study_brings_the_files_of_its_runs(tmp_path):
    copy_shipped(['studies/pisr'], str(tmp_path))
    assert (tmp_path / 'ablations' / 'pisr' / 'transfer_only.yml').is_file()
    assert (tmp_path / 'pisr_fsrcnn_x2.yml').is_file()


def test_a_name_that_is_not_there_is_reported():
    with pytest.raises(UserError, match=r"'mtkd_swinr_x4.yml'.*mtkd_swinir_x4.yml"):
        list_shipped(['mtkd_swinr_x4.yml'])


def test_completion_is_printed(capsys):
    pytest.importorskip('shtab')
    with pytest.raises(SystemExit) as stopped:
        main(['--completion', 'bash'])
    assert stopped.value.code in (0, None)
    assert 'diagnose' in capsys.readouterr().out
