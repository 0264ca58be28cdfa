"""`kdsr benchmark`: BasicSR's numbers, from any kind of file, with nothing computed twice."""

import csv
import json
import time
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from basicsr.archs import build_network
from basicsr.metrics import calculate_psnr, calculate_ssim
from basicsr.models.base_model import BaseModel
from basicsr.models.sr_model import SRModel
from torch.nn import functional as F

from kdsr.benchmark import scoring as command
from kdsr.benchmark.figure import plot_costs
from kdsr.benchmark.protocol import Protocol, Resources
from kdsr.benchmark.results import Task
from kdsr.benchmark.runtime import describe_runtimes, measure_runtimes
from kdsr.benchmark.scoring import benchmark
from kdsr.benchmark.tasks import make_super_resolver
from kdsr.cli import main
from kdsr.data.benchmark_sets import find_sets
from kdsr.data.matlab_bicubic import imresize_bicubic
from kdsr.errors import UserError
from kdsr.export_targets.exporting import ExportSettings, export
from kdsr.networks.candidates import Candidate, find_candidates
from kdsr.papers.rows import find_decimals
from tests.conftest import network_opt
from tests.references.imresize import imresize

FSRCNN = {'type': 'FSRCNN', 'upscale': 2, 'num_feat': 8, 'num_shrink': 4, 'num_map': 1}
VDSR = {'type': 'VDSR', 'upscale': 4, 'num_feat': 4, 'num_block': 1}


@pytest.fixture
def run(workspace):
    """Test models on three photos without LR images; return tasks and results."""
    rng = np.random.default_rng(0)
    for i in range(3):
        photo = cv2.resize(rng.integers(0, 256, (9, 12, 3), np.uint8), (61 + 6 * i, 47))
        (workspace.root / 'sets/Set5').mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(workspace.root / f'sets/Set5/{i}.png'), photo)

    def tested(*models, sets=('sets/Set5',), protocol=None, out='out', pictures=None, workers=2, **settings):
        resources = Resources(workers=workers, lr_cache=Path('lr'), pictures=pictures and Path(pictures))
        settings.setdefault('say', lambda line: None)
        return benchmark(models, sets, Path(out), protocol or Protocol(), resources, **settings)

    tested.workspace = workspace
    return tested


def scores(results):
    return [(r.psnr, r.ssim) for r in results]


def metrics(scale, **more):
    return {
        name: {'type': f'calculate_{name}', 'crop_border': scale, 'test_y_channel': True, **more}
        for name in ('psnr', 'ssim')
    }


@pytest.mark.parametrize('kind', ['SRModel', 'StudentModel', 'luminance', 'window', 'quadrants'])
def test_the_numbers_are_those_of_basicsrs_test_pipeline(kind, run, monkeypatch):
    """To 1e-6 dB, from the same test file."""
    workspace, seen = run.workspace, []
    network = {'luminance': FSRCNN, 'window': network_opt('SwinIRLight')}.get(kind, network_opt('EDSR'))
    opt = {
        'name': 'tested', 'model_type': 'SRModel' if kind == 'SRModel' else 'StudentModel', 'scale': 2, 'num_gpu': 0,
        'manual_seed': 0, 'datasets': {'test_1': workspace.images(count=2, size=44)}, 'network_g': network,
        'path': {'pretrain_network_g': workspace.weights(network, 'w'), 'param_key_g': 'params', 'strict_load_g': True},
        'val': {'save_img': False, 'metrics': metrics(2)},
    }  # fmt: skip
    if kind == 'luminance':
        opt['color'] = 'y'
    if kind == 'quadrants':
        opt['val']['quadrants'] = ['photos']
    log = SRModel._log_validation_metric_values
    monkeypatch.setattr(
        SRModel,
        '_log_validation_metric_values',
        lambda self, *rest: (seen.append(dict(self.metric_results)), log(self, *rest)),
    )
    workspace.test(opt)
    _, (result,) = run(workspace.write(opt), sets=())
    assert (result.model, result.set_name, result.quadrants) == ('tested', 'photos', kind == 'quadrants')
    assert seen == [{'psnr': pytest.approx(result.psnr, abs=1e-6), 'ssim': pytest.approx(result.ssim, abs=1e-6)}]
    assert BaseModel.validation  # the pipeline that was run


@pytest.mark.parametrize('protocol', [Protocol(), Protocol(rgb=True, crop_border=3)])
def test_bicubic_is_matlabs_both_ways(protocol, run):
    _, (result,) = run('bicubic', scales=[4], protocol=protocol)
    settings = {'crop_border': 3 if protocol.rgb else 4, 'test_y_channel': not protocol.rgb}
    gt = cv2.imread('sets/Set5/0.png')
    gt = gt[: gt.shape[0] // 4 * 4, : gt.shape[1] // 4 * 4]
    image = imresize(imresize(gt, Fraction(1, 4)), Fraction(4))  # the exact definition, which takes seconds
    expected = calculate_psnr(image, gt, **settings), calculate_ssim(image, gt, **settings)
    found = [(i.psnr, i.ssim) for i in result.images]
    assert found[0] == pytest.approx(expected, abs=1e-9)
    assert len(found) == 3
    assert (result.psnr, result.ssim) == pytest.approx(np.mean(found, axis=0))


def test_threads_change_nothing(run):
    weights = run.workspace.weights(network_opt('EDSR'), 'w')
    found = [
        run(weights, network=str(network_opt('EDSR')), workers=workers, out=f'out{workers}')[1] for workers in (0, 3)
    ]
    assert scores(found[0]) == scores(found[1])
    assert found[0][0].images == found[1][0].images


class Pattern(torch.nn.Module):
    """Nearest enlargement, and something that depends on where in the input a pixel is."""

    multiple = 4

    def forward(self, x):
        assert x.shape[-2] % 4 == x.shape[-1] % 4 == 0
        row = torch.arange(2 * x.shape[-2])[:, None] / 100
        return F.interpolate(x, scale_factor=2) + row


def answered(protocol, image):
    one = Candidate('x', 2, Pattern(), multiple=4, quadrants=['Set5'])
    return make_super_resolver(one, protocol, 'Set5', torch.device('cpu'))(image)[0]


def test_orientations_quarters_and_tiles():
    image = np.random.default_rng(0).integers(0, 256, (14, 26, 3), np.uint8)
    enlarged = (
        torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1).repeat_interleave(2, 1).repeat_interleave(2, 2)
    )
    enlarged = enlarged / 255
    whole = answered(Protocol(quadrants=False), image) - enlarged
    torch.testing.assert_close(whole, (torch.arange(28)[:, None] / 100).expand_as(whole), atol=1e-6, rtol=0)
    quarters = answered(Protocol(), image) - enlarged  # those of the option file
    torch.testing.assert_close(quarters, whole[:, :14].repeat(1, 2, 1), atol=1e-6, rtol=0)
    mean = answered(Protocol(quadrants=False, self_ensemble=True), image) - enlarged
    # from above and below along the padded rows, and the same along the columns
    rows, columns = (torch.arange(n) / 100 for n in (28, 52))
    expected = (rows[:, None] + rows.flip(0)[:, None] + columns + columns.flip(0)) / 4
    torch.testing.assert_close(mean, expected.expand_as(mean), atol=1e-6, rtol=0)
    tall = np.zeros((40, 8, 3), np.uint8)
    assert answered(Protocol(quadrants=False), tall).max() == pytest.approx(0.79)
    assert answered(Protocol(quadrants=False, tile=8), tall).max() <= 0.31  # no tile sees more than 16 rows


def test_what_is_finished_is_not_computed_again(run, monkeypatch):
    lines = []
    models = ('bicubic', f'a={run.workspace.weights(network_opt("EDSR"), "w")}')
    settings = {'network': str(network_opt('EDSR')), 'say': lines.append}
    _, first = run(*models, **settings)
    assert lines[1].startswith('[2/2] a x2, Set5: ')
    called = []
    monkeypatch.setattr(command, '_run', lambda task, *rest: called.append(task.candidate.name) or first[0])
    assert run(*models, **settings)[1] == first
    assert called == []
    run(*models, protocol=Protocol(crop_border=3), **settings)
    assert called == ['bicubic', 'a']
    run.workspace.weights(network_opt('EDSR'), 'w', seed=2)
    photo = cv2.imread('sets/Set5/0.png')
    run(*models, **settings)
    assert called[2:] == ['a']
    cv2.imwrite('sets/Set5/0.png', 255 - photo)
    run(*models, **settings)
    assert called[3:] == ['bicubic', 'a']


def test_a_training_files_newest_checkpoint_and_a_file_in_its_folder(run):
    workspace = run.workspace
    opt = workspace.options(network_g=network_opt('SwinIRLight'))
    with pytest.raises(UserError, match=r'net_g_latest\.pth does not exist'):
        run(workspace.write(opt), sets=())
    folder = workspace.train(opt)
    _, (result,) = run(workspace.write(opt), sets=())
    assert (result.model, result.set_name) == ('run', 'photos')
    assert result.source.endswith('models/net_g_latest.pth')
    _, (numbered,) = run(workspace.write(opt), sets=(), iteration='2')
    assert (numbered.source, numbered.psnr) == (result.source.replace('latest', '2'), result.psnr)
    content = torch.load(folder / 'models/net_g_2.pth', weights_only=True)
    network = build_network(network_opt('SwinIRLight'))
    network.load_state_dict(content['params_ema'])
    (one,) = find_candidates([str(folder / 'models/net_g_2.pth')])  # no --network: the experiment's file says it
    assert all(torch.equal(a, b) for a, b in zip(network.state_dict().values(), one.network.state_dict().values()))


def test_where_the_network_of_bare_weights_comes_from(run):
    workspace = run.workspace
    weights = workspace.weights(network_opt('EDSR'), 'bare')
    with pytest.raises(UserError, match='--network'):
        find_candidates([weights])
    (option_file,) = find_candidates([weights], network=workspace.write(workspace.options()))
    assert option_file.network_opt['num_feat'] == 8
    content = {**torch.load(weights, weights_only=True), 'network': network_opt('EDSR')}
    torch.save(content, workspace.root / 'inside.pth')  # as `kdsr convert` writes it
    assert find_candidates(['inside.pth'])[0].scale == 2
    official = {
        f'{name}.weight': torch.zeros(size)
        for name, size in (('input', (4, 1, 3, 3)), ('residual_layer.0.conv', (4, 4, 3, 3)), ('output', (1, 4, 3, 3)))
    }
    torch.save(official, workspace.root / 'vdsr.pth')
    two, three = find_candidates(['vdsr.pth'], scales=[2, 3])  # one file for every scale
    assert (two.scale, three.scale, two.luminance, two.name) == (2, 3, True, 'vdsr')


def test_names_and_scales(run):
    workspace = run.workspace
    weights = workspace.weights(network_opt('EDSR'), 'w')
    found = find_candidates(['bicubic', weights, f'mine={weights}', weights], network=str(network_opt('EDSR')))
    assert [(one.name, one.scale) for one in found] == [('bicubic', 2), ('w', 2), ('mine', 2), ('w (2)', 2)]
    with pytest.raises(UserError, match='w is a network for x2; --scale asks for 4'):
        find_candidates([weights], [4], str(network_opt('EDSR')))
    with pytest.raises(UserError, match='--scale'):
        find_candidates(['bicubic'])
    with pytest.raises(UserError, match=r"'none\.pth' does not exist"):
        find_candidates(['none.pth'])
    with pytest.raises(UserError, match='write a mapping'):
        find_candidates([weights], network='EDSR')
    with pytest.raises(UserError, match='only 0 of'):
        find_candidates([weights], network='{type: IMDN, upscale: 2}')


def test_mistakes_in_the_protocol_are_told_before_anything_is_run(run, monkeypatch):
    with monkeypatch.context() as context:
        context.setattr(command, '_run', lambda *a: pytest.fail('nothing is run'))
        for protocol in (Protocol(tile=-1), Protocol(crop_border=-1), Protocol(tile=64, quadrants=True)):
            with pytest.raises(UserError, match='--tile'):
                run('bicubic', scales=[2], protocol=protocol)
        with pytest.raises(UserError, match='has no test sets'):
            run('bicubic', scales=[2], sets=())
    with pytest.raises(UserError, match='SSIM needs 11 pixels'):
        run('bicubic', scales=[2], protocol=Protocol(crop_border=20))


def test_an_answer_of_another_size_is_told(run):
    opt = {**network_opt('EDSR'), 'upscale': 4}
    weights = run.workspace.weights(opt, 'w')
    (one,) = find_candidates([weights], network=str(opt))
    test_set = find_sets(['sets/Set5'], 2)[0]
    with pytest.raises(UserError, match=r'its result for 0 has 92x120 pixels, the ground truth has 46x60'):
        command.run_on_set(Candidate('x', 2, one.network), test_set, Protocol(), Resources(lr_cache=Path('lr')))


@pytest.mark.parametrize('rgb', [False, True])
def test_luminance_networks_are_written_in_colour(rgb, run):
    weights = run.workspace.weights(FSRCNN, 'y')
    _, (result,) = run(weights, network=str(FSRCNN), pictures='pictures', protocol=Protocol(rgb=rgb))
    written = [cv2.imread(f'pictures/y_x2/Set5/{i}.png') for i in range(3)]
    assert [w.shape for w in written] == [(46, 60 + 6 * i, 3) for i in range(3)]
    assert np.ptp(written[0].astype(int), axis=2).max() > 20
    if rgb:
        psnr = [
            calculate_psnr(w, cv2.imread(f'sets/Set5/{i}.png')[:46, : w.shape[1]], 2) for i, w in enumerate(written)
        ]
        assert result.psnr == pytest.approx(np.mean(psnr))


def test_rounding_the_ground_truth_is_said(run):
    weights = run.workspace.weights(FSRCNN, 'y')
    texts, results = [], []
    for round_gt in (False, True):
        results += run(weights, network=str(FSRCNN), protocol=Protocol(round_gt=round_gt))[1]
        texts.append(Path('out/benchmark.md').read_text())
    assert results[0].psnr != results[1].psnr
    assert 'Luminance networks (y): the ground truth is not rounded.' in texts[0]
    assert 'Luminance networks (y): the ground truth is rounded.' in texts[1]


def test_reports_and_pictures(run, capsys):
    weights = run.workspace.weights(network_opt('EDSR'), 'w')
    arguments = ['--sets', 'sets', '--lr-cache', 'lr', '--network', str(network_opt('EDSR')), '--out', 'out']
    main(['benchmark', 'bicubic', f'a={weights}', *arguments, '--self-ensemble', '--quadrants', 'Set5', '--plot'])
    told = capsys.readouterr().out
    text = Path('out/benchmark.md').read_text()
    assert text in told
    content = json.loads(Path('out/benchmark.json').read_text())
    mean = {r['model']: (r['psnr'], r['ssim']) for r in content['results']}
    assert '| x2 | parameters | Set5 (3) |' in text
    assert f'| bicubic | - | {mean["bicubic"][0]:.2f} / {mean["bicubic"][1]:.4f} |' in text
    assert f'{mean["a"][0]:.2f} / {mean["a"][1]:.4f} † |' in text
    for words in (
        'Y channel',
        'S pixels cut from each border',
        'mean of 8',
        'where marked †',
        'Set5 x2 made',
        'fp32',
        'kdsr 0',
    ):
        assert words in text
    rows = list(csv.DictReader(Path('out/benchmark.csv').read_text().splitlines()))
    assert [r['image'] for r in rows] == ['0', '1', '2', 'mean'] * 2
    assert float(rows[-1]['psnr']) == pytest.approx(mean['a'][0], abs=1e-6)
    assert content['protocol']['self_ensemble'] is True
    assert {p.name for p in Path('out').glob('*.png')} == {'psnr_parameters_x2.png', 'psnr_multi-adds_x2.png'}


def test_bicubic_alone_has_no_cost_to_be_drawn_against(run):
    assert plot_costs(*run('bicubic', scales=[2]), ['parameters'], Path('out')) == []


def test_onnx_files_are_scored_as_their_network(run, workspace):
    pytest.importorskip('onnxruntime')
    for network in (FSRCNN, {**network_opt('EDSR', 2)}):
        path = workspace.weights(network, network['type'])
        export(path, 'files', ExportSettings(['onnx'], json.dumps(network), repeats=0), lambda line: None)
        _, results = run(path, f'files/{network["type"]}.onnx', network=json.dumps(network), out=network['type'])
        original, exported = results
        assert (exported.scale, exported.luminance) == (original.scale, original.luminance)
        assert exported.parameters == original.parameters
        for ours, theirs in zip(exported.images, original.images):
            assert ours.psnr == pytest.approx(theirs.psnr, abs=0.01)
    with pytest.raises(UserError, match=r'nowhere\.onnx'):
        run('nowhere.onnx')


def trained_mtkd(run, model_type='DistillationModel'):
    """An option file of MTKD with two teachers, and the networks behind it: teachers, aggregator, student."""
    workspace = run.workspace
    teachers = [workspace.teacher(name) for name in ('EDSR', 'RCAN')]
    fusing = {'type': 'DCTSwin', 'upscale': 2, 'num_teachers': 2, 'embed_dim': 6, 'depths': [1], 'num_heads': 1}
    opt = workspace.options(model_type=model_type)
    weights = workspace.weights(fusing, 'fusing', teachers=[t['name'] for t in teachers])
    block = {'teachers': teachers}
    if model_type == 'DistillationModel':
        block |= {'aggregator': {'network': fusing, 'path': weights}, 'losses': {'l_dwt': {'type': 'WaveletLoss'}}}
    else:
        opt['network_g'] = fusing
    opt |= {'distillation': block}
    folder = workspace.root / 'experiments' / opt['name'] / 'models'
    folder.mkdir(parents=True)
    student = workspace.weights(opt['network_g'], 'student', seed=5, teachers=[t['name'] for t in teachers])
    (folder / 'net_g_latest.pth').write_bytes(Path(student).read_bytes())
    return workspace.write(opt), opt, student


def loaded(network, path):
    built = build_network(dict(network))
    built.load_state_dict(torch.load(path, weights_only=True)['params'])
    return built.eval()


def mean_psnr(answer):
    """The mean PSNR on Y of `answer`, an image function, over the three photos."""
    found = []
    for i in range(3):
        gt = cv2.imread(f'sets/Set5/{i}.png')
        gt = gt[: gt.shape[0] // 2 * 2, : gt.shape[1] // 2 * 2]
        lq = imresize_bicubic(gt, 2)
        image = torch.from_numpy(lq[..., ::-1].copy()).permute(2, 0, 1)[None].float() / 255
        with torch.no_grad():
            sr = answer(image)[0].clamp(0, 1).permute(1, 2, 0).numpy()[..., ::-1]
        found.append(calculate_psnr((sr * 255).round().astype(np.uint8), gt, crop_border=2, test_y_channel=True))
    return np.mean(found)


@pytest.mark.parametrize('model_type', ['DistillationModel', 'AggregationModel'])
def test_teachers_fused_image_and_student_stand_in_one_table(model_type, run):
    path, opt, student = trained_mtkd(run, model_type)
    _, results = run(path, teachers=True)
    teachers = [loaded(t['network'], t['path']) for t in opt['distillation']['teachers']]
    fusing_opt = opt['network_g'] if model_type == 'AggregationModel' else opt['distillation']['aggregator']['network']
    fusing_weights = student if model_type == 'AggregationModel' else opt['distillation']['aggregator']['path']
    fusing = loaded(fusing_opt, fusing_weights)
    expected = {f'{t["name"]} (teacher)': n for t, n in zip(opt['distillation']['teachers'], teachers)}
    expected['MT'] = lambda lq: fusing(torch.cat([teacher(lq) for teacher in teachers], dim=1))
    if model_type == 'DistillationModel':
        expected[opt['name']] = loaded(opt['network_g'], student)
    assert [r.model for r in results] == list(expected)
    for result in results:
        assert result.psnr == pytest.approx(mean_psnr(expected[result.model]), abs=1e-6)
    assert len({round(r.psnr, 4) for r in results}) == len(results)


def test_an_aggregator_is_scored_with_its_teachers(run):
    path, opt, _ = trained_mtkd(run, 'AggregationModel')
    _, (alone,) = run(path)
    _, results = run(path, teachers=True, out='out2')
    assert alone.model == opt['name']
    assert scores([alone]) == scores([r for r in results if r.model == 'MT'])


def test_a_teacher_that_sees_the_ground_truth_is_shown_it(run):
    workspace = run.workspace
    decoder = {k: v for k, v in FSRCNN.items() if k != 'upscale'}
    network = {'type': 'PISRTeacher', 'upscale': 2, 'num_feat': 4, 'num_shrink': 3, 'decoder': decoder}
    opt = {
        'name': 'privileged', 'model_type': 'PrivilegedTeacherModel', 'scale': 2, 'color': 'y', 'num_gpu': 0,
        'datasets': {'test_1': workspace.images(count=2, size=44)}, 'network_g': network,
        'path': {'pretrain_network_g': workspace.weights(network, 'w')}, 'val': {'metrics': metrics(2)},
    }  # fmt: skip
    _, (result,) = run(workspace.write(opt), sets=())
    network = loaded(network, opt['path']['pretrain_network_g'])
    found = []
    assert result.luminance
    assert result.privileged
    assert 'input is the ground truth (privileged)' in Path('out/benchmark.md').read_text()
    images = sorted(Path(opt['datasets']['test_1']['dataroot_gt']).glob('*.png'))
    for file in images:
        rgb = torch.from_numpy(cv2.imread(str(file))[..., ::-1].copy()).double() / 255
        y = (rgb @ torch.tensor([65.481, 128.553, 24.966], dtype=torch.float64) + 16) / 255
        with torch.no_grad():
            sr = (network(y[None, None].float())[0, 0].clamp(0, 1).numpy() * 255).round()
        error = (sr - 255 * y.numpy())[2:-2, 2:-2]
        found.append(10 * np.log10(255**2 / (error**2).mean()))
    assert result.psnr == pytest.approx(np.mean(found), abs=1e-3)


def test_teachers_are_asked_for_where_there_are_none(run):
    opt = run.workspace.options()
    with pytest.raises(UserError, match=r'--teachers: it has no .distillation'):
        find_candidates([run.workspace.write(opt)], teachers=True)


@pytest.mark.parametrize(
    ('files', 'decimals'),
    [
        (['options/lsfd_rcan_x4.yml'], 3),
        (['A=options/test/teacher_san_x2.yml'], 3),
        (['options/mtkd_rcan_x4.yml', 'bicubic'], 2),
        (['options/test/rfdn_x2.yml'], 2),
    ],
)
def test_three_decimals_where_the_paper_prints_three(files, decimals):
    assert find_decimals(files) == decimals


def test_the_table_has_the_decimals_that_were_asked_for(run):
    run('bicubic', scales=[2], decimals=3)
    (line,) = (line for line in Path('out/benchmark.md').read_text().splitlines() if line.startswith('| bicubic | -'))
    assert len(line.split('|')[3].split('/')[0].strip().partition('.')[2]) == 3


class Sleeper(torch.nn.Module):
    """Takes a time, on a clock of its own, and holds memory in proportion to its image."""

    multiple = 1
    clock = 0.0

    def forward(self, x):
        Sleeper.clock += x.numel() / 2e5
        kept = [x + i for i in range(3)]
        return F.interpolate(sum(kept), scale_factor=2)


def test_time_and_memory_are_means_over_the_images_of_a_set(run, monkeypatch):
    monkeypatch.setattr(time, 'perf_counter', lambda: Sleeper.clock)
    run('bicubic', scales=[2])  # makes the photos
    (test_set,) = find_sets(['sets/Set5'], 2)
    tasks = [Task(Candidate('sleeper', 2, Sleeper()), test_set), Task(Candidate('bicubic', 2), test_set)]
    (found,) = measure_runtimes(tasks, Protocol(), Resources(lr_cache=Path('lr')))
    numbers = [3 * (23 * side) for side in (30, 33, 36)]  # of the LR images: 47 x 61, 67, 73 halved
    assert found.seconds == pytest.approx(np.mean(numbers) / 2e5)
    # x, three sums, and the running sum's two latest values, then the enlarged image: the peak is between
    assert 4 * 4 * np.mean(numbers) < found.memory < 4 * 12 * np.mean(numbers)
    assert found.largest / found.memory == pytest.approx(max(numbers) / np.mean(numbers), rel=0.02)
    text = describe_runtimes([found], Resources())
    assert f'| sleeper x2 | Set5 | {1e3 * found.seconds:.2f} ms | {found.memory / 2**20:.1f} MiB |' in text


def test_the_command_measures_and_draws_among_published_networks(run):
    workspace = run.workspace
    weights = workspace.weights(network_opt('EDSR'), 'w')
    arguments = ['--network', str(network_opt('EDSR')), '--sets', 'sets/Set5', '--lr-cache', 'lr', '--out', 'out']
    main(['benchmark', f'mine={weights}', *arguments, '--runtime', '--plot', 'parameters', '--published'])
    assert '| mine x2 | Set5 |' in Path('out/runtime.md').read_text()
    with_them = cv2.imread('out/psnr_parameters_x2.png')
    main(['benchmark', f'mine={weights}', *arguments, '--plot', 'parameters'])
    alone = cv2.imread('out/psnr_parameters_x2.png')
    assert (with_them != alone).mean() > 0.001
