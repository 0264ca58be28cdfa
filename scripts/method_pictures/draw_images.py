"""Diagrams of the methods that compare images, in the words of drawing.py."""

from drawing import GREY, RED, SHEET


def response(p):
    image = p.image(30, 178, 44, 'lq', 'LR')
    mean = p.box(418, 66, 76, 48, ['mean'])
    for name, y in (('1', 52), ('N', 136)):
        teacher = p.box(140, y - 28, 150, 56, [f'teacher {name}'], kind='teacher', state='frozen')
        p.arrow(image.right, (106, 200), (106, y), teacher.left)
        answer = p.image(326, y - 26, 52, 'teacher')
        p.arrow(teacher.right, answer.left)
        p.arrow(answer.right, (456, y), (456, 66 if y < 90 else 114))
        p.text(396, y - 14, f'$T_{name}$')
    p.dots(215, 94)
    target = p.image(556, 64, 52, 'teacher', '$T$')
    p.arrow(mean.right, target.left)
    student = p.box(140, 242, 120, 56, ['student'], kind='student', state='trained')
    p.arrow(image.right, (106, 200), (106, 270), student.left)
    answer = p.image(556, 244, 52, 'student', '$S$')
    p.arrow(student.right, answer.left)
    copy = p.loss(700, 62, 170, 56, ['$½ mean |S − T|$', 'ResponseLoss'])
    p.arrow(target.right, copy.left)
    learn = p.loss(700, 242, 140, 56, ['$½ mean |S − G|$', 'pixel_opt'])
    p.arrow(answer.right, learn.left)
    p.arrow(answer.right, (650, 270), (650, 180), (785, 180), copy.bottom)
    truth = p.image(880, 244, 52, 'gt', '$G$')
    p.arrow(truth.left, learn.right)
    p.arrow((855, 118), (855, 330), (200, 330), student.bottom, kind='gradient')
    p.arrow((745, 298), (745, 330), kind='gradient', head=False)
    p.text(456, 182, 'a single teacher: its image is $T$', 13, fill='#555555')
    return 390


def mtkd(p):
    _mtkd_aggregator(p)
    p.panel(10, 336, 940, 342, 'Stage 2: the student copies the fused image, band by band')
    upper, lower, pixel = 424, 540, 622
    image = p.image(30, 460, 44, 'lq', 'LR')
    for shift in (10, 5):
        p.box(126 + shift, upper - 28 - shift, 120, 56, [], 'teacher')
    teachers = p.box(126, upper - 28, 120, 56, ['teachers', '1 to N'], kind='teacher', state='frozen')
    p.arrow(image.right, (100, 482), (100, upper), teachers.left)
    fuse = p.box(318, upper - 28, 120, 56, ['aggregator', 'of stage 1'], kind='teacher', state='frozen')
    p.arrow((256, upper), fuse.left, label='$T_1…T_N$', at=(288, upper - 13), size=13)
    student = p.box(126, lower - 28, 110, 56, ['student'], kind='student', state='trained')
    p.arrow(image.right, (100, 482), (100, lower), student.left)
    bands = []
    for kind, source, y in (('teacher', fuse, upper), ('student', student, lower)):
        answer = p.image(480, y - 26, 52, kind, f'${kind[0].upper()}$')
        p.arrow(source.right, answer.left)
        transform = p.box(568, y - 20, 60, 40, ['DWT'])
        p.arrow(answer.right, transform.left)
        bands.append(p.bands(664, y - 40, 80, kind))
        p.arrow(transform.right, bands[-1].left)
    for x, y, band in ((-14, 18, 'LL'), (94, 18, 'HL'), (-14, 62, 'LH'), (94, 62, 'HH')):
        for row in (upper, lower):
            p.text(664 + x, row - 40 + y, band, 13)
    p.loss(792, 452, 150, 60, ['$¼ Σ_b mean |b(S) − b(T)|$'], size=13)
    p.text(868, 440, '$b$: LL, LH, HL, HH', 13)
    p.arrow((744, upper), (776, upper), (776, 474), (792, 474))
    p.arrow((744, lower), (776, lower), (776, 490), (792, 490))
    truth = p.loss(568, pixel - 20, 170, 40, ['$0.1 mean |S − G|$'])
    p.arrow((532, lower + 14), (548, lower + 14), (548, pixel), truth.left)
    target = p.image(800, pixel - 26, 52, 'gt')
    p.text(872, pixel, '$G$')
    p.arrow(target.left, truth.right)
    p.arrow((900, 512), (900, 662), (181, 662), student.bottom, kind='gradient')
    p.arrow(truth.bottom, (truth.bottom[0], 662), kind='gradient', head=False)
    return 730


def _mtkd_aggregator(p):
    p.panel(10, 10, 940, 312, 'Stage 1: the aggregator learns to fuse the images of the teachers')
    image = p.image(30, 114, 44, 'lq', 'LR')
    joined = p.box(330, 108, 66, 56, ['concat'])
    for name, y in (('1', 70), ('2', 136), ('N', 214)):
        teacher = p.box(126, y - 22, 110, 44, [f'teacher {name}'], kind='teacher', state='frozen')
        p.arrow(image.right, *([(100, 136), (100, y)] if y != 136 else []), teacher.left)
        answer = p.image(260, y - 22, 44, 'teacher', f'$T_{name}$' if name != '1' else '')
        p.arrow(teacher.right, answer.left)
        p.arrow(answer.right, *([(363, y), (363, 108 if y < 136 else 164)] if y != 136 else [joined.left]))
    p.text(282, 103, '$T_1$')
    p.dots(181, 175)
    smaller = p.box(418, 108, 112, 56, ['pixel-unshuffle', 'to the size of LR'], size=13)
    p.arrow(joined.right, smaller.left)
    fuse = p.box(552, 106, 142, 60, ['aggregator', 'DCTSwin'], kind='teacher', state='trained')
    p.arrow(smaller.right, fuse.left)
    fused = p.image(730, 110, 52, 'teacher', '$T$')
    p.arrow(fuse.right, fused.left)
    loss = p.loss(812, 114, 124, 44, ['$mean |T − G|$'])
    p.arrow(fused.right, loss.left)
    truth = p.image(848, 34, 52, 'gt')
    p.text(924, 60, '$G$')
    p.arrow(truth.bottom, loss.top)
    p.arrow(loss.bottom, (874, 192), (623, 192), (623, 167), kind='gradient')
    p.text(338, 232, 'one layer of DCTSwin', 13, 'start', '#555555')
    x, y = 330, 272
    attention = (('LN, window 8×8', 112), ('DCT', 48), ('attention', 76), ('inverse DCT', 90))
    for branch in (attention, (('LN, MLP', 70),)):
        start = x + 8
        for label, width in branch:
            box = p.box(x + 18, y - 17, width, 34, [label], size=13)
            p.arrow((x, y), box.left)
            x = box.right[0]
        plus = p.sign(x + 29, y, '+', 11)
        p.arrow((x, y), plus.left)
        p.arrow((start, y), (start, y + 32), (x + 29, y + 32), plus.bottom)
        x = plus.right[0]
    p.arrow((x, y), (x + 24, y))


def dukd(p):
    tops, block = (10, 194, 404), (0.5, 0.5, 0.5, 0.5)
    titles = (
        'The training pair: $L$ and its ground truth $G$',
        'Zoom-in: a block of $G$, as large as $L$, is an image $X$ without a ground truth',
        'Zoom-out, optional: $L$ is the ground truth of its own small version $X′$',
    )
    for top, height, title in zip(tops, (174, 200, 174), titles):
        p.panel(10, top, 940, height, title)
    for top, name, truth in ((tops[0], 'L', 'G'), (tops[2], 'X′', 'L')):
        _answers(p, top, name, truth)
    p.image(62, tops[0] + 64, 60, 'gt', '$G$')
    source = p.image(206, tops[0] + 79, 30, 'lq', '$L$')
    p.arrow(source.right, (316, source.right[1]), head=False)
    source = p.image(77, tops[2] + 79, 30, 'lq', '$L$')
    smaller = p.box(146, tops[2] + 76, 86, 36, ['bicubic, 1/S'], size=13)
    p.arrow(source.right, smaller.left)
    tiny = p.image(266, tops[2] + 86, 16, 'lq', '$X′$')
    p.arrow(smaller.right, tiny.left)
    p.arrow(tiny.right, (316, tiny.right[1]), head=False)
    _zoom_in(p, tops[1], block)
    return 630


def _answers(p, top, name, truth):
    """Draw how teacher and student answer to an image that has a ground truth."""
    upper, lower = top + 64, top + 130
    side = 56 if truth == 'G' else 30
    loss = p.loss(706, top + 70, 228, 56, [f'$w mean |F({name}) − {truth}|$', ''])
    p.text(820, loss.y + 40, f'$+ mean |F({name}) − T({name})|$')
    for kind, y in (('teacher', upper), ('student', lower)):
        box = p.box(400, y - 22, 110, 44, [kind], kind=kind, state='frozen' if kind == 'teacher' else 'trained')
        p.arrow((316, top + 94), (340, top + 94), (340, y), box.left)
        answer = p.image(566 - side / 2, y - side / 2, side, kind)
        p.arrow(box.right, answer.left)
        p.text(
            600, y - (14 if kind == 'teacher' else -14), f'${"T" if kind == "teacher" else "F"}({name})$', 15, 'start'
        )
        p.arrow(
            answer.right,
            (680, y),
            (680, loss.y + (18 if kind == 'teacher' else 38)),
            (706, loss.y + (18 if kind == 'teacher' else 38)),
        )
    p.arrow((820, loss.y + 56), (820, top + 165), (455, top + 165), (455, lower + 24), kind='gradient')


def _zoom_in(p, top, block):
    upper, lower = top + 66, top + 140
    p.image(62, top + 70, 60, 'gt', '$G$')
    p.add('path', d=f'M62 {top + 100}H122M92 {top + 70}V{top + 130}', stroke='#ffffff', stroke_width=1.5)
    p.add('rect', x=92, y=top + 100, width=30, height=30, fill='none', stroke=RED, stroke_width=3)
    view = p.image(206, top + 100, 30, 'gt', '$X$', part=block)
    p.arrow((122, top + 115), view.left)
    teacher = p.box(400, upper - 22, 110, 44, ['teacher'], kind='teacher', state='frozen')
    p.arrow(view.right, (256, top + 115), (256, upper), teacher.left)
    target = p.image(704, upper - 28, 56, 'teacher', part=block)
    p.arrow(teacher.right, target.left)
    p.text(732, upper - 40, '$T(X)$')
    change = p.box(276, lower - 18, 36, 36, ['$A$'])
    p.arrow(view.right, (256, top + 115), (256, lower), change.left)
    changed = p.image(340, lower - 15, 30, 'gt', part=block, changed=True)
    p.arrow(change.right, changed.left)
    student = p.box(400, lower - 22, 110, 44, ['student'], kind='student', state='trained')
    p.arrow(changed.right, student.left)
    answer = p.image(538, lower - 28, 56, 'student', part=block, changed=True)
    p.arrow(student.right, answer.left)
    undo = p.box(622, lower - 18, 54, 36, ['$A^{-1}$'])
    p.arrow(answer.right, undo.left)
    result = p.image(704, lower - 28, 56, 'student', part=block)
    p.arrow(undo.right, result.left)
    p.text(566, lower - 40, '$F(A(X))$')
    p.text(302, lower + 30, '$A$: inverts, flips, transposes', 13)
    loss = p.loss(800, top + 74, 136, 56, ['$mean |A^{-1}(F(A(X)))$', ''])
    p.text(868, loss.y + 40, '$− T(X)|$')
    p.arrow(target.right, (780, upper), (780, loss.y + 18), (800, loss.y + 18))
    p.arrow(result.right, (780, lower), (780, loss.y + 38), (800, loss.y + 38))
    p.arrow((868, loss.y + 56), (868, top + 188), (455, top + 188), (455, lower + 24), kind='gradient')


def csd(p):
    high, middle, low, near = 72, 186, 306, '#4f8a3c'
    image = p.image(26, low - 22, 44, 'lq', 'LR')
    for shift in (8, 4, 0):
        p.image(26 + shift, middle - 26 + shift, 40, 'lq')
        p.image(312 + shift, middle - 30 + shift, 52, 'bicubic')
    p.lines(50, middle + 42, ['the first $K$ of', 'the batch'], 13)
    p.text(342, middle + 46, '$B_1 … B_K$')
    teacher = p.box(122, high - 28, 130, 56, ['teacher'], kind='teacher', state='frozen')
    cubic = p.box(122, middle - 24, 130, 48, ['bicubic', 'enlarged'])
    student = p.box(122, low - 28, 110, 56, ['student'], kind='student', state='trained')
    p.arrow(image.right, (96, low), (96, high), teacher.left)
    p.arrow(image.right, student.left)
    p.arrow((74, middle), cubic.left)
    target = p.image(316, high - 26, 52, 'teacher', '$T$')
    answer = p.image(316, low - 26, 52, 'student')
    p.text(342, low - 38, '$S$')
    for box, end in ((teacher, target.left), (cubic, (312, middle)), (student, answer.left)):
        p.arrow(box.right, end)
    p.box(
        430,
        high - 36,
        116,
        low - high + 72,
        ['extractor $V$', 'VGG19,', 'five layers $l$,', 'images in 0..255'],
        kind='data',
        state='frozen',
    )
    for x, y in ((368, high), (372, middle), (368, low)):
        p.arrow((x, y), (430, y))
    p.arrow((546, middle), (590, middle))
    p.add('rect', x=592, y=high - 36, width=180, height=low - high + 72, rx=10, fill='#ffffff', stroke='#b0b0b0')
    p.text(682, high - 18, 'in the features of $V_l$', 13, fill='#555555')
    for x, y in ((622, 280), (664, 306), (712, 300), (748, 270), (738, 312)):
        p.add('path', d=f'M682 186L{x} {y}', stroke='#9a9a9a', stroke_width=1.4)
        p.add('circle', cx=x, cy=y, r=7, fill='#9a9a9a', stroke=GREY)
    p.add('path', d='M682 186L662 108', stroke=near, stroke_width=3)
    for x, y, kind, label in ((682, 186, 'student', '$S$'), (662, 108, 'teacher', '$T$')):
        p.add('circle', cx=x, cy=y, r=9, fill=SHEET[kind], stroke=GREY, stroke_width=1.5)
        p.text(x + 20, y, label)
    p.text(686, 142, '$d_l(T, S)$: near', 13, 'start', near)
    p.text(598, 202, '$d_l(S, B)$: far', 13, 'start', '#555555')
    p.text(690, 330, '$B_k$', 13)
    loss = p.loss(800, middle - 44, 144, 88, [])
    p.text(834, middle, '$Σ_l w_l$', 16)
    p.fraction(900, middle, '$d_l(T, S)$', '$d_l(S, B)$', 66)
    p.arrow((772, middle), loss.left)
    p.arrow((880, middle + 44), (880, 362), (177, 362), student.bottom, kind='gradient')
    pixel = p.loss(500, 384, 150, 44, ['$mean |S − G|$'])
    p.arrow(answer.right, (400, low), (400, 406), pixel.left)
    truth = p.image(700, 380, 52, 'gt')
    p.text(774, 406, '$G$')
    p.arrow(truth.left, pixel.right)
    p.arrow(pixel.top, (pixel.top[0], 362), kind='gradient', head=False)
    return 486
