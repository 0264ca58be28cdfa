"""The table of methods. A method consists of its row here, its page in docs/methods/, and its loss."""

from __future__ import annotations

from dataclasses import dataclass

_STUDENTS_OF_PISR = ('FSRCNN', 'FSRCNN-L', 'VDSR', 'IDN', 'CARN')


@dataclass(frozen=True)
class Rows:
    """Rows of a paper's tables.

    Attributes:
        paper: As `kdsr.papers.results` calls it.
        rows: Their names as printed, in the order of the page.
        own: Only networks with this row are shown; all networks when empty.
        scales: The scales to show.
    """

    paper: str
    rows: tuple[str, ...]
    own: str = ''
    scales: tuple[int, ...] = (4,)


@dataclass(frozen=True)
class Measured:
    """A comparison that was run with kdsr.

    Attributes:
        study: Its folder in benchmarks/results.
        section: Its section in docs/results.md.
        runs: Label to title, the baseline first.
    """

    study: str
    section: str
    runs: dict[str, str]


@dataclass(frozen=True)
class Method:
    """One method.

    Attributes:
        name: Its page is docs/methods/<name>.md.
        title: Its name in the papers.
        authors, paper, venue, url: The paper.
        compares: What it compares between student and teacher.
        classes: Registered names of its losses, networks and views.
        teachers: The teachers that it needs; empty for none.
        cache: Whether `kdsr cache` helps.
        trains: What is trained besides the student.
        runs: Patterns of its option files; {a,b} stands for a or b.
        staged: Whether `runs` are stages, which are trained in this order.
        alone: Patterns of the option files of its students without teachers.
        ablations: Patterns of its ablations and readings.
        ablated: What these vary, in words.
        rows: The rows of the papers' tables that its page shows.
        measured: The measurement that its page shows.
        word: Its name in every command; empty where `kdsr distil` does not offer it, and `name` is used.
    """

    name: str
    title: str
    authors: str
    paper: str
    venue: str
    url: str
    compares: str
    classes: tuple[str, ...]
    teachers: str = 'one'
    cache: str = 'no'
    trains: str = ''
    runs: tuple[str, ...] = ()
    staged: bool = False
    alone: tuple[str, ...] = ()
    ablations: tuple[str, ...] = ()
    ablated: str = ''
    rows: tuple[Rows, ...] = ()
    measured: Measured | None = None
    word: str = ''

    @property
    def source(self) -> str:
        """Authors and venue, in a few words."""
        names = self.authors.split(', ')
        who = ', '.join(names) if len(names) < 3 else f'{names[0]} et al.'
        return f'{who}, {self.venue}'


def _measure_in_study(label: str, title: str, **more: str) -> Measured:
    runs = {'plain': 'student alone', label: title, **more}
    return Measured('feature_distillation', 'Feature distillation', runs)


METHODS = (
    Method(
        'mtkd', 'MTKD', 'Jiang, Feng, Zhang, Bull',
        'MTKD: Multi-Teacher Knowledge Distillation for Image Super-Resolution', 'ECCV 2024',
        'https://arxiv.org/abs/2404.09571',
        compares='the image, in wavelet bands, with the fused image of all teachers',
        classes=('WaveletLoss', 'DCTLoss', 'DCTSwin'),
        teachers='any number, fused into one image', cache='yes, in both stages', trains='the aggregator, in stage 1',
        runs=('mtkd_aggregator_x*.yml', 'mtkd_{swinir,rcan,edsr}_x*.yml'), staged=True,
        alone=('baseline_{swinir,rcan,edsr}_x*.yml',),
        ablations=('ablations/mtkd/*.yml',), ablated='v1 to v7, the released settings',
        rows=(Rows('MTKD', ('Compact', 'KD', 'AT', 'FAKD', 'DUKD', 'CrossKD', 'MTKD (ours)', 'MT')),),
        measured=Measured(
            'mtkd_study', 'Three real teachers (MTKD)',
            {'plain': 'student alone', 'mtkd': 'MTKD', 'l1': 'MTKD with L1 for the wavelet loss'},
        ),
        word='mtkd',
    ),
    Method(
        'lsfd', 'LSFD', 'Park, Kwak', 'Local-Selective Feature Distillation for Single Image Super-Resolution', '2021',
        'https://arxiv.org/abs/2111.10988',
        compares="three features through a regressor, weighted where the student's image is wrong (LFD: everywhere)",
        classes=('LSFDLoss', 'FFTLoss'), trains='five 3x3 convolutions a feature',
        runs=('lsfd_*_x*.yml', 'comparisons/{lsfd,facd}/lfd_*.yml', 'comparisons/lsfd/lsfd_fft_*.yml'),
        alone=('comparisons/lsfd/student_*.yml',),
        ablations=('ablations/lsfd/*.yml',), ablated='its failed variant, readings',
        rows=(Rows('LSFD', ('Student', 'LFD', 'LSFD', 'LSFD + FFT', 'Teacher')),),
        measured=_measure_in_study('lsfd', 'LSFD'), word='lsfd',
    ),
    Method(
        'facd', 'FACD', 'Moon, Jeong, Kim',
        'Feature-domain Adaptive Contrastive Distillation for Efficient Single Image Super-Resolution', '2022',
        'https://arxiv.org/abs/2211.15951',
        compares='three features, with other samples as negatives; only where the teacher is better',
        classes=('FACDLoss',), trains='five 1x1 convolutions a feature',
        runs=('facd_*_x*.yml',), alone=('comparisons/facd/student_*.yml',),
        ablations=('ablations/facd/*.yml',), ablated='Tables 5 to 9, readings',
        rows=(Rows('FACD', ('Student', 'FAKD**', 'LFD*', 'LFD**', 'FACD (ours)', 'Teacher')),),
        measured=_measure_in_study('facd', 'FACD'), word='facd',
    ),
    Method(
        'pisr', 'PISR', 'Lee, Lee, Kim, Ham',
        'Learning with Privileged Information for Efficient Image Super-Resolution', 'ECCV 2020',
        'https://arxiv.org/abs/2007.07524',
        compares="one feature by its likelihood, on luminance; the student starts with the teacher's weights",
        classes=('VIDLoss', 'PISRTeacher'),
        teachers='one that gets the ground truth', cache="the encoder's output",
        trains="the teacher, in stage 1; VID's estimator",
        runs=('pisr_teacher_*_x*.yml', 'pisr_{fsrcnn,fsrcnn_l,vdsr,idn,carn}_x*.yml'), staged=True,
        alone=('baseline_{fsrcnn,fsrcnn_l,vdsr,idn,carn}_x*.yml',),
        ablations=('ablations/pisr/*.yml',), ablated='Table 1, the released scale',
        rows=(
            Rows('PISR', tuple(f'{net}{end}' for net in _STUDENTS_OF_PISR for end in ('*', ' (Ours)')), scales=(2, 4)),
        ),
        measured=Measured(
            'pisr_study', 'PISR',
            {
                'plain': 'student alone', 'transfer': 'weight transfer', 'mae': 'weight transfer, MAE',
                'vid': 'weight transfer, VID-L (PISR)', 'same_iterations': 'student alone, 20,000 iterations',
                'same_time': 'student alone, 50,000 iterations',
            },
        ),
        word='pisr',
    ),
    Method(
        'rfdn', 'RFDN', 'Liu, Tang, Wu',
        'Residual Feature Distillation Network for Lightweight Image Super-Resolution', 'AIM 2020',
        'https://arxiv.org/abs/2009.11551',
        compares='nothing: a network with feature distillation inside', classes=('RFDN',), teachers='', cache='',
        runs=('rfdn_x*.yml', 'rfdn_l_x*.yml', 'e_rfdn*_x4.yml'),
        ablations=('ablations/rfdn/*.yml',), ablated='Tables 1, 2 and 4',
        rows=(Rows('RFDN', ('Bicubic', 'FSRCNN', 'CARN', 'IMDN', 'RFDN (Ours)', 'RFDN-L (Ours)')),),
    ),
    Method(
        'fitnet', 'FitNet', 'Romero, Ballas, Kahou, Chassang, Gatta, Bengio', 'FitNets: Hints for Thin Deep Nets',
        'ICLR 2015', 'https://arxiv.org/abs/1412.6550',
        compares='features, value by value', classes=('FitNetLoss',), trains='a 1x1 convolution a feature',
        runs=('comparisons/lsfd/fitnet_*.yml',),
        rows=(Rows('LSFD', ('Student', 'FitNet', 'LFD', 'Teacher'), 'FitNet'),),
        measured=_measure_in_study('fitnet', 'FitNet', fitnet_light='FitNet, a tenth of the weight'), word='fitnet',
    ),
    Method(
        'attention_transfer', 'AT', 'Zagoruyko, Komodakis',
        'Paying More Attention to Attention: Improving the Performance of Convolutional Neural Networks via Attention '
        'Transfer', 'ICLR 2017', 'https://arxiv.org/abs/1612.03928',
        compares='maps of the strength of features', classes=('AttentionTransferLoss',),
        runs=('comparisons/mtkd/at_*.yml',),
        rows=(Rows('MTKD', ('Compact', 'AT', 'Full'), 'AT'),), measured=_measure_in_study('at', 'AT'), word='at',
    ),
    Method(
        'fakd', 'FAKD', 'He, Dai, Lu, Jiang, Xia',
        'FAKD: Feature-Affinity Based Knowledge Distillation for Efficient Image Super-Resolution', 'ICIP 2020',
        'https://doi.org/10.1109/ICIP40778.2020.9190917',
        compares='the similarity of every pair of positions in a feature', classes=('FAKDLoss',),
        runs=('comparisons/{lsfd,facd,mtkd}/fakd_*.yml',),
        rows=(
            Rows('LSFD', ('Student', 'FAKD', 'FAKD*', 'FAKD + FFT')), Rows('FACD', ('Student', 'FAKD**'), 'FAKD**'),
            Rows('MTKD', ('Compact', 'FAKD'), 'FAKD'),
        ),
        measured=_measure_in_study('fakd', 'FAKD'), word='fakd',
    ),
    Method(
        'response', 'KD', 'Hinton, Vinyals, Dean', 'Distilling the Knowledge in a Neural Network', '2015',
        'https://arxiv.org/abs/1503.02531',
        compares='the image', classes=('ResponseLoss',), teachers='any number: their mean', cache='yes',
        runs=('comparisons/mtkd/kd_*.yml',),
        rows=(Rows('MTKD', ('Compact', 'KD', 'Full'), 'KD'),), measured=_measure_in_study('kd', 'KD'), word='kd',
    ),
    Method(
        'dukd', 'DUKD', 'Zhang, Li, Hu, et al.', 'Data Upcycling Knowledge Distillation for Image Super-Resolution',
        '2023', 'https://arxiv.org/abs/2309.14162',
        compares='the image, also on extra batches made from the training pair',
        classes=('ZoomIn', 'ZoomOut'), teachers='any number: their mean', word='dukd',
        runs=('comparisons/mtkd/dukd_*.yml',), rows=(Rows('MTKD', ('Compact', 'KD', 'DUKD'), 'DUKD'),),
    ),
    Method(
        'csd', 'CSD', 'Wang, Lin, Qu, et al.',
        'Towards Compact Single Image Super-Resolution via Contrastive Self-distillation', 'IJCAI 2021',
        'https://arxiv.org/abs/2105.11683',
        compares='VGG19 features of the image, with blurred images as negatives', classes=('CSDLoss',),
        teachers='any number: their mean', cache='yes', word='csd',
    ),
)  # fmt: skip
