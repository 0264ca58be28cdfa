"""The losses of LSFD, FACD and what they compare with, in float64 NumPy, element by element from the equations."""

import numpy as np
from scipy.signal import correlate


def regressor_arguments(regressor):
    """(weight, bias) and slopes of a stack of convolutions and PReLUs, in order, as float64 arrays."""
    arrays = [p.detach().double().numpy() for p in regressor.parameters()]
    layers, slopes = [], []
    while arrays:
        first = arrays.pop(0)
        if first.ndim == 4:
            layers.append((first, arrays.pop(0)))
        else:
            slopes.append(float(first[0]))
    return layers, slopes


def regress(x, layers, slopes):
    """Convolutions with zero padding, a PReLU after each for which there is a slope."""
    for i, (weight, bias) in enumerate(layers):
        pad = weight.shape[-1] // 2
        padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        x = np.stack([[correlate(s, kernel, mode='valid')[0] for kernel in weight] for s in padded])
        x = x + bias[:, None, None]
        if i < len(slopes):
            x = np.where(x > 0, x, slopes[i] * x)
    return x


def fft_loss(student, teacher, complex, fft_norm, plane):
    """The full complex transform of both images; half a plane is its first W // 2 + 1 columns."""
    difference = np.fft.fft2(student, norm=fft_norm) - np.fft.fft2(teacher, norm=fft_norm)
    if plane == 'half':
        difference = difference[..., : student.shape[-1] // 2 + 1]
    if complex == 'modulus':
        return np.mean(np.abs(difference))
    return np.mean(np.stack([np.abs(difference.real), np.abs(difference.imag)]))


def attention_loss(student, teacher, mode):
    def attention(sample):
        q = np.sum(sample**2, axis=0).ravel()
        if mode == 'fakd':
            return q / (np.sqrt(np.sum(q**2)) + 1e-6)
        q = q / len(sample)
        return q / np.sqrt(np.sum(q**2))

    differences = [attention(s) - attention(t) for s, t in zip(student, teacher)]
    if mode == 'paper':
        return np.mean([np.sqrt(np.sum(d**2)) for d in differences])
    return np.mean(np.square(differences) if mode == 'code' else np.abs(differences))


def affinity(x, kind):
    """One matrix per sample for 'spatial' and 'channel', one for the batch for 'instance'."""
    if kind == 'instance':
        gram = np.array([[np.sum(a * b) for b in x] for a in x])
        return np.array([row / np.sqrt(np.sum(row**2)) for row in gram])[None]
    matrices = []
    for sample in x.reshape(len(x), x.shape[1], -1):
        vectors = sample.T if kind == 'spatial' else sample
        unit = [v / (np.sqrt(np.sum(v**2)) + 1e-8) for v in vectors]
        matrices.append([[np.dot(a, b) for b in unit] for a in unit])
    return np.array(matrices)


def fakd_loss(student, teacher, kind):
    return np.mean(np.abs(affinity(student, kind) - affinity(teacher, kind)))


def selective_fakd_loss(student, teacher, kind, attention, selective):
    """attention: (N, 1, H, W)."""
    if selective == 'features':
        return fakd_loss(student * attention, teacher * attention, kind)
    flat = attention.reshape(len(attention), -1)

    def weighted(x):
        if kind == 'spatial':  # A_ij becomes M_i M_j A_ij
            return affinity(x, kind) * np.array([np.outer(m, m) for m in flat])
        rows = x.reshape(len(x), x.shape[1], -1)
        rows = rows / (np.sqrt(np.sum(rows**2, axis=2, keepdims=True)) + 1e-8)
        return np.array([np.einsum('ap,bp,p->ab', r, r, m**2) for r, m in zip(rows, flat)])

    return np.mean(np.abs(weighted(student) - weighted(teacher)))


def selective_map(student, teacher, kernel):
    """Eq. (3) of LSFD, one feature pixel at a time."""
    samples, _, height, width = student.shape
    out = np.zeros((samples, 1, height // kernel, width // kernel))
    for n, _, i, j in np.ndindex(*out.shape):
        rows, columns = slice(i * kernel, (i + 1) * kernel), slice(j * kernel, (j + 1) * kernel)
        out[n, 0, i, j] = np.sum(np.abs(teacher[n, :, rows, columns] - student[n, :, rows, columns])) / kernel**2
    return out


def feature_difference(student, teacher, feature_norm):
    def normalised(x):
        if feature_norm == 'none':
            return x
        if feature_norm == 'l2_channel':
            return x / np.sqrt(np.sum(x**2, axis=1, keepdims=True))
        if feature_norm == 'l2_spatial':
            return np.stack([[channel / np.sqrt(np.sum(channel**2)) for channel in sample] for sample in x])
        return np.stack([sample / np.sqrt(np.sum(sample**2)) for sample in x])

    return np.abs(normalised(student) - normalised(teacher))


def lsfd_term(student, teacher, attention, feature_norm, reduction):
    """attention: M, or 1 for LFD; the features are regressed already."""
    d = attention * feature_difference(student, teacher, feature_norm)
    return np.mean(d) if reduction == 'mean' else np.mean([np.sum(sample) for sample in d])


def indicator(student, teacher, gt):
    return [0.0 if np.mean(np.abs(s - g)) < np.mean(np.abs(t - g)) else 1.0 for s, t, g in zip(student, teacher, gt)]


def facd_image_loss(student, teacher, gt, alpha, use_gt=True, use_teacher=True):
    total = 0.0
    for s, t, g, a in zip(student, teacher, gt, alpha):
        to_gt, to_teacher = np.mean(np.abs(s - g)), np.mean(np.abs(s - t))
        if use_gt and use_teacher:
            total += ((2 - a) * to_gt + a * to_teacher) / 2
        elif use_gt:
            total += to_gt
        elif use_teacher:
            total += a * to_teacher
    return total / len(student)


def facd_ratio(student, teacher, alpha, negatives):
    n = len(student)
    d = [[np.sum(np.abs(s - t)) for t in teacher] for s in student]
    earlier = sum(d[a][b] for a in range(n) for b in range(n) if a < b)
    later = sum(d[a][b] for a in range(n) for b in range(n) if a > b)
    if negatives == 'per_anchor':
        return sum(alpha[i] * d[i][i] / sum(d[i][b] for b in range(n) if b != i) for i in range(n))
    denominator = {
        'global_pairs': earlier,
        'global_pairs_reversed': later,
        'global_pairs_sym': (earlier + later) / 2,
        'all_ordered': earlier + later,
    }[negatives]
    return sum(alpha[i] * d[i][i] for i in range(n)) / denominator


def facd_info_nce(student, teacher, alpha, tau, dot=False):
    """Of cosines, or of the mean products of the elements (`dot`)."""

    def similarity(s, t):
        length = s.size if dot else np.sqrt(np.sum(s**2) * np.sum(t**2))
        return np.sum(s * t) / length

    terms = []
    for i, s in enumerate(student):
        scores = np.exp([similarity(s, t) / tau for t in teacher])
        terms.append(-alpha[i] * np.log(scores[i] / scores.sum()))
    return np.mean(terms)


def csd_layer(student, teacher, negatives):
    near = np.mean(np.abs(teacher - student))
    far = sum(np.mean(np.abs(student - negative[None])) for negative in negatives)
    return near / (far + 1e-7)


def vid_branch(x, weight1, bias1, slope, weight2, bias2):
    """conv1x1, PReLU, conv1x1; weights (C_out, C_in)."""
    hidden = np.einsum('oc,nchw->nohw', weight1, x) + bias1[:, None, None]
    hidden = np.where(hidden > 0, hidden, slope * hidden)
    return np.einsum('oc,nchw->nohw', weight2, hidden) + bias2[:, None, None]


def vid_loss(student, teacher, mean_weights, scale_weights, pdf, form, scale):
    """Element by element, from the densities' exponents and normalisers."""
    mu = vid_branch(student, *mean_weights)
    raw = vid_branch(student, *scale_weights)
    if scale in ('channel', 'layer'):
        raw = raw.mean(axis=(2, 3), keepdims=True)
    spread = np.broadcast_to(np.log1p(np.exp(raw)), mu.shape)
    if form == 'official':
        spread = spread * (0.1 if pdf == 'laplace' else 0.001)
    spread = spread + 1e-8
    terms = np.zeros_like(mu)
    for at in np.ndindex(*mu.shape):
        error = teacher[at] - mu[at]
        if pdf == 'laplace':
            density = np.log(2 * spread[at] if form == 'official' else spread[at]) + abs(error) / spread[at]
        else:
            density = 0.5 * np.log(spread[at]) + error**2 / (2 * spread[at])
        terms[at] = density + (mu.shape[1] * np.log(2 * np.pi) / 2 if form == 'official' else 0)
    return terms.mean()
