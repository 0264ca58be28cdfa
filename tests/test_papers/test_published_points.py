"""The points of the papers' pictures of PSNR against cost."""

from kdsr.papers.published_points import find_published


def test_points_are_those_of_the_tables():
    parameters = {p.network: (p.cost, p.psnr) for p in find_published(4, 'Set5', 'parameters')}
    assert parameters['IMDN'] == (715, 32.21)
    assert parameters['RFDN (Ours)'] == (550, 32.24)
    assert parameters['CARN'] == (1592, 32.13)
    multi_adds = {p.network: (p.cost, p.psnr) for p in find_published(4, 'Set5', 'multi-adds')}
    assert multi_adds['IMDN'] == (41.1, 32.21)
    assert multi_adds['FSRCNN (Ours)'] == (4.6, 30.95)
    assert find_published(4, 'Set5', 'latency') == []
    assert find_published(4, 'my photos', 'parameters') == []
    assert {p.network for p in find_published(3, 'bsd100', 'parameters')} >= {'IMDN', 'RFDN-L (Ours)'}
