"""Diagrams of PISR and of RFDN, in the words of drawing.py."""

from drawing import GREY


def pisr(p):
    del p.words['truth']  # it is Y here
    p.panel(10, 10, 940, 252, 'Stage 1: the teacher sees the ground truth, through an hourglass')
    high, low = 110, 216
    truth = p.image(34, high - 32, 64, 'gt', '$Y = GT$')
    encoder = p.wedge(146, high, 130, 112, 60, labels=['encoder', 'stride S'], kind='teacher', state='trained')
    p.arrow(truth.right, encoder.left)
    code = p.image(330, high - 20, 40, 'lq')
    p.text(350, high - 34, '$X′$')
    p.arrow(encoder.right, code.left)
    decoder = p.wedge(
        424, high, 130, 60, 112, labels=['decoder', "the student's", 'network'], kind='teacher', state='trained'
    )
    p.arrow(code.right, decoder.left)
    answer = p.image(608, high - 32, 64, 'teacher', '$Y′$')
    p.arrow(decoder.right, answer.left)
    restore = p.loss(722, high - 22, 150, 44, ['$mean |Y − Y′ |$'])
    p.arrow(answer.right, restore.left)
    imitate = p.loss(424, low - 20, 170, 40, ['$λ_T mean |X − X′ |$'])
    p.arrow(code.bottom, (350, low - 8), (424, low - 8))
    p.image(266, low - 20, 40, 'lq')
    p.text(232, low, '$X$ = LR')
    p.arrow((306, low + 8), (424, low + 8))
    p.arrow((797, 132), (797, 178), (489, 178), (489, 154), kind='gradient')
    p.arrow(imitate.bottom, (509, 250), (180, 250), (180, 160), kind='gradient')
    _pisr_student(p, 276)
    return 732


def _pisr_student(p, top):
    p.panel(
        10, top, 940, 406, "Stage 2: the student starts as the decoder and learns to foresee the teacher's features"
    )
    high, middle, low = top + 96, top + 210, top + 330
    truth = p.image(34, high - 32, 64, 'gt', '$Y = GT$')
    encoder = p.wedge(146, high, 130, 112, 60, labels=['encoder'], kind='teacher', state='frozen')
    p.arrow(truth.right, encoder.left)
    code = p.image(330, high - 20, 40, 'lq')
    p.text(350, high - 34, '$X′$')
    p.arrow(encoder.right, code.left)
    decoder = p.wedge(424, high, 130, 60, 112, labels=['decoder'], kind='teacher', state='frozen')
    p.arrow(code.right, decoder.left)
    theirs = p.feature(608, high - 23, 'teacher', size=36)
    p.arrow(decoder.right, theirs.left, kind='tap', label='$F_T$')
    small = p.image(330, low - 20, 40, 'lq', '$X$ = LR')
    student = p.wedge(424, low, 130, 60, 112, labels=['student'], kind='student', state='trained')
    p.arrow(small.right, student.left)
    p.arrow((450, high + 42), (450, low - 44), kind='weights')
    p.text(436, middle - 8, 'all weights,', 13, 'end')
    p.text(436, middle + 9, 'once, at the start', 13, 'end')
    ours = p.feature(608, middle - 23, 'student', size=36)
    p.arrow((524, low - 52), (524, middle), ours.left, kind='tap', label='$F_S$', at=(566, middle - 12))
    estimator = p.box(
        684, middle - 30, 108, 60, ['estimator', 'two branches', 'of 1×1 conv'], kind='helper', state='trained'
    )
    p.arrow(ours.right, estimator.left)
    likely = p.loss(736, high - 28, 196, 56, ['$mean ( log b + |F_T − μ| / b )$', 'VIDLoss, weight $λ_S$'], size=14)
    p.arrow(theirs.right, likely.left)
    p.arrow(estimator.right, (834, middle), (834, high + 28), label='$μ, b$', at=(852, middle - 28))
    answer = p.image(608, low - 32, 64, 'student', '$S$')
    p.arrow(student.right, answer.left)
    pixel = p.loss(716, low - 22, 130, 44, ['$mean |Y − S|$'])
    p.arrow(answer.right, pixel.left)
    copy = p.image(880, low - 28, 56, 'gt', '$Y$')
    p.arrow(copy.left, pixel.right)
    p.arrow((916, high + 28), (916, middle + 46), (542, middle + 46), (542, low - 54), kind='gradient')
    p.arrow(pixel.top, (pixel.top[0], middle + 46), kind='gradient', head=False)


def rfdn(p):
    p.words = {'student': 'with weights, all of them trained', 'none': 'without weights'}
    p.panel(10, 10, 940, 192, 'The network: the outputs of all blocks are joined')
    y, top = 124, 66
    p.image(26, y - 20, 40, 'lq', 'LR')
    x, ends = 66, []
    for label, gap, width in (
        ('conv 3×3', 18, 54),
        ('RFDB 1', 26, 74),
        ('RFDB 2', 24, 74),
        ('RFDB n', 50, 74),
        ('concat', 26, 62),
    ):
        box = p.box(
            x + gap,
            y - 26,
            width,
            52,
            label.split(' ') if 'conv ' in label else [label],
            'none' if label == 'concat' else 'student',
        )
        p.arrow((x, y), box.left)
        x = box.right[0]
        ends.append(x)
    for i, end in enumerate(ends[1:3]):
        across, into = y + 56 - 14 * i, ends[4] - 40 + 18 * (1 - i)
        p.arrow((end + 10, y), (end + 10, across), (into, across), (into, y + 26))
    p.add('rect', x=ends[2] + 15, y=y - 12, width=20, height=24, fill='#ffffff')
    for i in (-1, 0, 1):
        p.add('circle', cx=ends[2] + 25 + 6 * i, cy=y, r=1.8, fill=GREY)
    for labels, width in ((['conv 1×1', 'LeakyReLU'], 84), (['conv', '3×3'], 54)):
        box = p.box(x + 18, y - 26, width, 52, labels, 'student')
        p.arrow((x, y), box.left)
        x = box.right[0]
    plus = p.sign(x + 30, y, '+', 12)
    p.arrow((x, y), plus.left)
    p.arrow((ends[0] + 10, y), (ends[0] + 10, top), (x + 30, top), plus.top, label='long skip')
    shuffle = p.box(x + 60, y - 30, 68, 60, ['conv 3×3,', 'pixel-', 'shuffle'], 'student', size=13)
    p.arrow(plus.right, shuffle.left)
    answer = p.image(shuffle.x + 86, y - 26, 52, 'student', 'SR')
    p.arrow(shuffle.right, answer.left)
    _rfdn_block(p, 216)
    return 606


def _rfdn_block(p, top):
    p.panel(
        10, top, 940, 340, 'RFDB: at each step a 1×1 convolution keeps half of the channels, an SRB refines all of them'
    )
    y, low, x = top + 72, top + 178, 46
    p.text(34, y, '$x$', 17)
    joined = p.box(56, low, 664, 34, ['concat'])
    for i in (1, 2, 3):
        keep = p.box(x + 30, y + 38, 84, 40, ['conv 1×1', '$c → c/2$'], 'student', size=13)
        p.arrow((x + 12, y), (x + 12, y + 58), keep.left)
        p.arrow(keep.bottom, (keep.x + 42, low), label=f'$d_{i}$', at=(keep.x + 58, low - 14))
        refine = p.box(x + 30, y - 22, 116, 44, ['SRB', '$c → c$'], 'student')
        p.arrow((x, y), refine.left)
        x = refine.right[0] + 44
        p.arrow(refine.right, (x, y), head=False)
        p.text(x - 22, y - 13, f'$r_{i}$')
    last = p.box(x + 22, y - 22, 96, 44, ['conv 3×3', '$c → c/2$'], 'student')
    p.arrow((x, y), last.left)
    p.arrow(last.bottom, (last.x + 48, low), label='$d_4$', at=(last.x + 64, low - 14))
    fuse = p.box(740, low - 8, 84, 50, ['conv 1×1', '$2c → c$'], 'student', size=13)
    p.arrow(joined.right, fuse.left)
    attention = p.box(844, low - 8, 62, 50, ['CCA'], 'student')
    p.arrow(fuse.right, attention.left)
    p.arrow(attention.right, (936, low + 17))
    p.text(740, low - 60, 'LeakyReLU after', 13, 'start', '#555555')
    p.text(740, low - 43, 'each $d_i$', 13, 'start', '#555555')
    low += 100
    p.text(34, low, 'SRB', 15, 'start', font_weight='bold')
    refine = p.box(120, low - 18, 84, 36, ['conv 3×3'], 'student')
    p.arrow((82, low), refine.left)
    plus = p.sign(236, low, '+', 12)
    p.arrow(refine.right, plus.left)
    p.arrow((96, low), (96, low + 36), (236, low + 36), plus.bottom)
    act = p.box(270, low - 18, 88, 36, ['LeakyReLU'])
    p.arrow(plus.right, act.left)
    p.arrow(act.right, (384, low))
    p.text(430, low, 'CCA', 15, 'start', font_weight='bold')
    x = 490
    p.arrow((472, low), (x, low))
    for labels, width, kind in ((['std + mean'], 84, 'none'), (['1×1, ReLU, 1×1, sigmoid'], 158, 'student')):
        box = p.box(x, low - 18, width, 36, labels, kind, size=13)
        x = box.right[0] + 22
        p.arrow(box.right, (x, low))
    times = p.sign(x + 12, low, '×', 12)
    p.arrow((480, low), (480, low + 36), (x + 12, low + 36), times.bottom)
    p.arrow(times.right, (x + 46, low))
    p.text(x + 52, low - 8, 'E-RFDN:', 13, 'start')
    p.text(x + 52, low + 9, 'ESA instead', 13, 'start')
