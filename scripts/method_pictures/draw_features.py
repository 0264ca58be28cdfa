"""Diagrams of the methods that compare features, in the words of drawing.py."""

from drawing import GREY, RED, SHEET, shade

MIDDLE, UPPER, LOWER = 212, 137, 287  # heights: between the networks, the teacher's features, the student's


def two_networks(p):
    """Draw the left of a method that compares features; return where the student's and the teacher's taps end."""
    image = p.image(22, MIDDLE - 22, 44, 'lq', 'LR')
    for kind, y, row in (('teacher', 32, UPPER), ('student', 332, LOWER)):
        side = 1 if kind == 'teacher' else -1
        p.arrow(image.right, (88, MIDDLE), (88, y + 30), (110, y + 30))
        p.box(110, y, 240, 60, [], kind=kind, state='frozen' if kind == 'teacher' else 'trained')
        p.text(150, y + 30, kind)
        high = 38 if kind == 'teacher' else 22
        for x in (196, 244, 292):
            p.add('rect', x=x, y=y + 30 - high / 2, width=34, height=high, rx=3, fill='#ffffff', stroke='#8a8a8a')
            p.arrow((x + 17, y + 30 + side * high / 2), (x + 17, row - side * 22), kind='tap')
            p.feature(x - 1, row - 18, kind, size=26)
        p.text(166, row, f'$F_{kind[0].upper()}$', 17)
        p.add('rect', x=146, y=row - 25, width=196, height=50, rx=6, fill='none', stroke='#b0b0b0')
    p.text(122, MIDDLE, 'early, middle, late: each pair is', 13, 'start', '#555555')
    p.text(122, MIDDLE + 17, 'compared, the results are added', 13, 'start', '#555555')
    return (342, LOWER), (342, UPPER)


def image_loss(p, formula, teacher=True):
    """Draw the student's image and the image losses at the bottom, below the features."""
    image = p.image(392, 336, 52, 'student', '$S$')
    p.arrow((350, 362), image.left)
    loss = p.loss(492, 341, 292 if teacher else 160, 42, [formula])
    p.arrow(image.right, loss.left)
    p.arrow(loss.top, (loss.top[0], 324), kind='gradient', head=False)
    truth = p.image(loss.x + loss.w + 40, 336, 52, 'gt', '$G$')
    p.arrow(truth.left, loss.right)
    if teacher:
        p.image(truth.x + 62, 336, 52, 'teacher', '$T$')


NEAR, FAR = '#cfe6c0', '#f4d9d2'
BOTH = '$½ mean |S − G| + ½ mean |S − T|$'


def meet(p, ours, theirs, loss, gradient=True):
    """Lead the two sides of a comparison to its loss, and its gradient to the student."""
    x = loss.x + loss.w * 0.35
    p.arrow(theirs, (x, theirs[1]), (x, loss.y))
    p.arrow(ours, (x, ours[1]), (x, loss.y + loss.h))
    if gradient:
        gradient_to_student(p, (loss.x + loss.w * 0.65, loss.y + loss.h))


def gradient_to_student(p, start):
    p.arrow(start, (start[0], 324), (372, 324), (372, 346), (352, 346), kind='gradient')


def fitnet(p):
    ours, theirs = two_networks(p)
    regressor = p.box(
        402, LOWER - 25, 150, 50, ['conv 1×1, ReLU', '$C_S → C_T$ channels'], kind='helper', state='trained'
    )
    p.arrow(ours, regressor.left)
    regressed = p.feature(622, LOWER - 23, 'helper', size=36)
    p.arrow(regressor.right, regressed.left, label='$r(F_S)$')
    target = p.feature(622, UPPER - 23, 'teacher', size=36)
    p.arrow(theirs, target.left, label='$F_T$')
    loss = p.loss(746, MIDDLE - 28, 190, 56, ['$mean |r(F_S) − F_T|$', 'added over the taps'])
    meet(p, regressed.right, target.right, loss)
    image_loss(p, '$mean |S − G|$', teacher=False)
    return 450


def attention_transfer(p):
    ends = []
    for end, row, kind, shift in zip(two_networks(p), (LOWER, UPPER), ('student', 'teacher'), (0.6, 0)):
        square = p.box(396, row - 24, 132, 48, ['$Q = mean_c F^2$', 'over the channels'])
        p.arrow(end, square.left)
        unit = p.box(560, row - 24, 108, 48, ['$q = Q / |Q|_2$', 'over positions'])
        p.arrow(square.right, unit.left)
        bumps = [
            [1.1 / (1 + (i - 2.2 - shift) ** 2 + 0.5 * (j - 3.4 + 2 * shift) ** 2) for j in range(7)] for i in range(7)
        ]
        attention = p.grid(722, row - 28, 8, [[shade(v, kind) for v in line] for line in bumps])
        p.arrow(unit.right, attention.left, label=f'$q_{kind[0].upper()}$')
        ends.append(attention.right)
    loss = p.loss(800, MIDDLE - 28, 148, 56, ['$mean (q_S − q_T)^2$', 'added over the taps'])
    meet(p, *ends, loss)
    image_loss(p, '$mean |S − G|$', teacher=False)
    return 450


def fakd(p):
    ends = []
    for end, row, kind, reach in zip(two_networks(p), (LOWER, UPPER), ('student', 'teacher'), (3.0, 1.6)):
        unit = p.box(368, row - 24, 184, 48, ['each column ÷ its length', 'columns: positions'])
        p.arrow(end, unit.left)
        columns = [[shade(((5 * i + 3 * j + i * j) % 7) / 7, kind) for j in range(9)] for i in range(4)]
        flat = p.grid(578, row - 14, 7, columns)
        p.arrow(unit.right, flat.left)
        p.text(flat.x + 31, row + 25, '$X: C × HW$', 13)
        alike = [
            [shade(1.05 / (1 + abs(i - j) / reach) - 0.25 * (i != j and i * j % 3 == 1), kind) for j in range(9)]
            for i in range(9)
        ]
        affinity = p.grid(730, row - 31, 7, alike)
        p.arrow(flat.right, affinity.left, label='$A = X^TX$')
        ends.append(affinity.right)
    p.text(730 + 31, MIDDLE - 10, '$A: HW × HW$', 13)
    p.text(730 + 31, MIDDLE + 8, 'cosines', 13)
    loss = p.loss(806, MIDDLE - 28, 142, 56, ['$mean |A_S − A_T|$', 'added over the taps'])
    meet(p, *ends, loss)
    image_loss(p, BOTH)
    return 450


def lsfd(p):
    ours, theirs = two_networks(p)
    regressor = p.box(384, LOWER - 28, 134, 56, ['', ''], kind='helper', state='trained')
    for i in range(5):
        p.add('rect', x=398 + 23 * i, y=LOWER - 21, width=14, height=22, rx=2, fill=SHEET['helper'], stroke=GREY)
    p.text(451, LOWER + 15, '5 conv 3×3, PReLU', 13)
    p.arrow(ours, regressor.left)
    ends = []
    for start, row in ((regressor.right, LOWER), (theirs, UPPER)):
        unit = p.box(576, row - 20, 92, 40, ['÷ its length'])
        p.arrow(start, unit.left, label='$r(F_S)$' if row == LOWER else '$F_T$')
        ends.append(unit.right)
    minus = p.sign(684, MIDDLE, '−')
    p.arrow(ends[0], (684, LOWER), (684, MIDDLE + 13))
    p.arrow(ends[1], (684, UPPER), (684, MIDDLE - 13))
    times = p.sign(768, MIDDLE, '×')
    p.arrow(minus.right, times.left, label='$D = |·|$')
    loss = p.loss(802, MIDDLE - 28, 146, 56, ['$α_2 mean (M · D)$', 'added over the taps'])
    p.arrow(times.right, loss.left)
    gradient_to_student(p, (loss.x + 73, loss.y + loss.h))
    target = p.image(420, 36, 52, 'teacher', '$T$')
    p.arrow((350, 62), target.left)
    p.text(488, 62, '−', 20)
    p.image(504, 36, 52, 'student', '$S$')
    pooled = p.box(582, 38, 134, 48, ['sum of |·| over RGB,', 'mean of S×S pixels'], size=13)
    p.arrow((556, 62), pooled.left)
    wrong = [(3, 3), (4, 3), (3, 4), (4, 4), (1, 2), (2, 1), (5, 4), (3, 5), (4, 5)]
    heat = [
        [shade(0.9 if (i, j) in wrong[:4] else 0.5 if (i, j) in wrong else 0.08, 'map') for j in range(7)]
        for i in range(7)
    ]
    attention = p.grid(740, 34, 8, heat)
    p.arrow(pooled.right, attention.left)
    p.arrow(attention.bottom, times.top)
    p.text(780, 120, '$M$', 17, 'start')
    p.text(810, 55, 'large where the', 13, 'start')
    p.text(810, 72, 'student is wrong', 13, 'start')
    p.text(804, 121, 'no gradient', 13, 'start', '#555555')
    image_loss(p, BOTH)
    return 450


def switch(p, rows, quarters, rejected):
    """Draw FACD's decision per patch: who is nearer to the ground truth."""
    p.add('rect', x=648, y=28, width=298, height=270, rx=8, fill='none', stroke='#c4c4c4')
    for x, label in ((678, '$S_i$'), (722, '$T_i$'), (766, '$G_i$'), (912, '$α_i$')):
        p.text(x, 94, label, 16)
    p.text(838, 94, '$mean |· − G_i|$', 13)
    p.text(797, 50, 'Is the teacher the better one?', 15, font_weight='bold')
    for i, (part, y, errors) in enumerate(zip(quarters, rows, ((50, 32), (70, 44), (30, 54), (76, 52)))):
        sharp = 'teacher' if i == rejected else 'student'
        p.image(661, y - 17, 34, 'student', part=part, look=sharp)
        p.image(705, y - 17, 34, 'teacher', part=part, look='student' if i == rejected else 'teacher')
        p.image(749, y - 17, 34, 'gt', part=part)
        for bar, (width, kind) in enumerate(zip(errors, ('student', 'teacher'))):
            p.add('rect', x=800, y=y - 12 + 13 * bar, width=width, height=10, fill=SHEET[kind], stroke=GREY)
        p.text(912, y, '0' if i == rejected else '1', 17, fill=RED if i == rejected else '#222222')


def facd(p):
    rejected, rows, left, cell = 2, (132, 176, 220, 264), 438, 44
    quarters = [(0, 0, 0.5, 0.5), (0.5, 0, 0.5, 0.5), (0, 0.5, 0.5, 0.5), (0.5, 0.5, 0.5, 0.5)]
    teacher = p.box(104, 44, 130, 60, ['teacher'], kind='teacher', state='frozen')
    student = p.box(104, 168, 96, 60, ['student'], kind='student', state='trained')
    p.arrow((66, 198), (84, 198), (84, 74), teacher.left)
    p.arrow((66, 198), student.left)
    regressor = p.box(242, 166, 114, 64, ['$r$', 'five conv 1×1,', 'PReLU'], kind='helper', state='trained')
    p.arrow(student.right, regressor.left, label='$F_S$')
    p.arrow(teacher.right, (left - 10, 74), label='$F_T$')
    p.arrow(regressor.right, (384, 198))
    p.lines(47, 308, ['patches of', 'a batch'], 13)
    for i, (part, y) in enumerate(zip(quarters, rows)):
        p.image(28, y - 19, 38, 'lq', part=part)
        p.text(16, y, f'{i + 1}', 13)
        p.feature(390, y - 15, 'helper', size=20)
        p.feature(left + cell * i + 7, 60, 'teacher', size=20)
        p.text(left + cell * i + 22, 46, f'{i + 1}', 13)
        for j in range(4):
            x, top = left + cell * j, y - 22
            fill = NEAR if i == j != rejected else FAR if j > i else '#ffffff'
            p.add('rect', x=x, y=top, width=cell, height=cell, fill=fill, stroke='#8a8a8a')
            if j >= i:
                p.text(x + 22, y, f'$d({i + 1},{j + 1})$', 13)
            if i == j == rejected:
                p.add('path', d=f'M{x + 4} {top + 40}L{x + 40} {top + 4}', stroke=RED, stroke_width=2)
    switch(p, rows, quarters, rejected)
    for y, fill, label in ((352, NEAR, 'the same patch: near'), (376, FAR, 'different patches: far')):
        p.add('rect', x=104, y=y - 9, width=26, height=18, fill=fill, stroke='#8a8a8a')
        p.text(140, y, label, 13, 'start')
    p.add('rect', x=104, y=391, width=26, height=18, fill='#ffffff', stroke='#8a8a8a')
    p.add('path', d='M107 406L127 394', stroke=RED, stroke_width=2)
    p.text(140, 400, '$α = 0$: the student is better', 13, 'start')
    contrast = p.loss(426, 334, 200, 78, [])
    p.text(472, 373, '$λ Σ_f w_f$', 16)
    p.fraction(560, 373, '$Σ_i α_i d(i,i)$', '$Σ_{a<b} d(a,b)$', 104)
    p.arrow((526, 286), contrast.top)
    images = p.loss(
        648, 334, 298, 78, ['$½ (2 − α_i) |S_i − G_i| + ½ α_i |S_i − T_i|$', 'mean over the patches'], size=14
    )
    p.arrow((797, 298), images.top)
    p.arrow((648, 286), (640, 286), (640, 312), (590, 312), (590, 334))
    p.text(622, 324, '$α$')
    p.text(104, 132, 'one of the three taps $f$', 13, 'start', '#555555')
    p.arrow((426, 390), (375, 390), (375, 262), (152, 262), student.bottom, kind='gradient')
    p.arrow(images.bottom, (797, 426), (375, 426), (375, 390), kind='gradient', head=False)
    return 478
