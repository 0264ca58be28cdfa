"""Starting a run whose folder exists."""

from basicsr.utils import misc

from kdsr.compat import folders


def test_many_starts_within_a_second_keep_every_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, 'get_time_str', lambda: '20260131_120000')
    run = tmp_path / 'run'
    for number in range(4):
        misc.mkdir_and_rename(str(run))
        assert list(run.iterdir()) == []
        (run / f'{number}.state').touch()
    archive = tmp_path / 'run_archived_20260131_120000'
    expected = {archive: '0', archive.with_name(f'{archive.name}_2'): '1', archive.with_name(f'{archive.name}_3'): '2'}
    assert {
        folder: folder.joinpath(f'{number}.state').exists() for folder, number in expected.items()
    } == dict.fromkeys(expected, True)
    assert run.joinpath('3.state').exists()
