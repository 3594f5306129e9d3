"""The elementwise part of the engine as two kernels: a block's statistics, and the block turned into its gradient.

Blocks lie classes first, (c K, b), rows next to each other in memory. A program takes `ROWS` rows and walks `SPAN`
classes, `CLASSES` at a time, so that what belongs to the rows is read once. It works in the dtype of its (b,)
vectors, float32 or float64; only the scores may be narrower. Sums that cross programs are left as one partial sum
a program, for the caller to add: the same bits every time, which atomic additions would not give.

Arguments that the loss at hand has no use for are None, and their code is not compiled.
"""
# This is Triton's language: Python's types say nothing about it, and its compiler refuses annotations.
# mypy: ignore-errors

import triton
import triton.language as tl


@triton.jit
def _best(
    scores,
    inside,
    row,
    rows,
    first,
    work: tl.constexpr,
    CLASSES: tl.constexpr,
    K: tl.constexpr,
):
    """Return the (CLASSES, ROWS) scores of the classes from `first` on, and which sub-centre has the best."""
    # A block may hold more than 2^31 scores; a tile does not.
    here = scores + tl.cast(first, tl.int64) * K * rows
    place = (tl.arange(0, CLASSES) * K)[:, None] * rows + row[None, :]
    best = tl.load(here + place, mask=inside, other=0.0).to(work)
    winner = tl.zeros_like(place)
    for k in tl.static_range(1, K):
        other = tl.load(here + place + k * rows, mask=inside, other=0.0).to(work)
        better = (other > best) | (other != other)  # noqa: PLR0124 (NaN wins, as it does in torch.max)
        best = tl.where(better, other, best)
        winner = tl.where(better, k, winner)
    return best, winner


@triton.jit
def _move(cosine, r, r_sine, r_cosine, c, c_sine, c_cosine, RELAX: tl.constexpr, WRAPS: tl.constexpr):
    """Return psi(theta +- max(0, r - c)) and its slope, the numbers of `bisector.engine.angles.moved_exactly`.

    The sine and cosine of phi = theta +- (r - c) come from those of r (ROWS,), of c (CLASSES,) and of theta by the
    addition formulas, applied twice. The slope by the cosine is |sin phi / sin theta| wherever phi lies. With a
    margin below pi, the sign of sin phi tells whether phi has left the half circle; larger ones, for which `WRAPS`
    is compiled, first give back their whole half turns, psi(phi + pi) = psi(phi) - 2. Which of two neighbouring
    numbers of half turns rounding chooses makes no difference, since psi is continuous there.
    """
    square = (1.0 - cosine) * (1.0 + cosine)
    clamped = tl.maximum(square, 1e-30)
    over_sine = tl.rsqrt(clamped)
    sine = clamped * over_sine
    if RELAX:  # first theta - c, then + r; else theta + c, then - r
        x = cosine * c_cosine[:, None] + sine * c_sine[:, None]
        y = sine * c_cosine[:, None] - cosine * c_sine[:, None]
        turned_x = x * r_cosine[None, :] - y * r_sine[None, :]
        turned_y = y * r_cosine[None, :] + x * r_sine[None, :]
    else:
        x = cosine * c_cosine[:, None] - sine * c_sine[:, None]
        y = sine * c_cosine[:, None] + cosine * c_sine[:, None]
        turned_x = x * r_cosine[None, :] + y * r_sine[None, :]
        turned_y = y * r_cosine[None, :] - x * r_sine[None, :]
    if WRAPS:
        margin = tl.maximum(r[None, :] - c[:, None], 0.0)
        halves = tl.floor(margin * 0.3183098861837907)  # 1 / pi
        sign = 1.0 - 2.0 * (halves - 2.0 * tl.floor(halves * 0.5))
        turned_x *= sign
        turned_y *= sign
    # Where the sine is clamped it has no slope, and what is left of it is the cosine of the margin.
    slope = tl.where(square > 1e-30, tl.abs(turned_y) * over_sine, turned_x * cosine)
    left = turned_y < 0.0
    slope = tl.where(left & (square <= 1e-30), -slope, slope)
    beyond = -2.0 if RELAX else 2.0
    moved = tl.where(left, beyond - turned_x, turned_x)
    if WRAPS:
        moved += beyond * halves
    still = r[None, :] <= c[:, None]
    return tl.where(still, cosine, moved), tl.where(still, 1.0, slope)


@triton.jit
def _asked(
    demand,
    soft,
    soft_demand,
    soft_row,
    soft_class,
    row,
    each,
    inside,
    first,
    classes,
    work: tl.constexpr,
):
    """Return what the loss asks of each competitor: (CLASSES, 1), or (CLASSES, ROWS) with soft labels."""
    targets = tl.load(demand + each, mask=each < classes, other=0.0)[:, None]
    if soft is not None:
        # Probabilities are rows first and may be a view: any strides, more than 2^31 of them.
        place = each.to(tl.int64)[:, None] * soft_class + row.to(tl.int64)[None, :] * soft_row
        given = tl.load(soft + place, mask=inside, other=0.0).to(work)
        targets += given * tl.load(soft_demand + each, mask=each < classes, other=0.0)[:, None]
    return targets


@triton.jit(do_not_specialize=["start", "classes"])
def statistics(
    scores,  # (c K, b)
    labels,  # (b,) int64, counted as `start` is
    scale,  # ()
    offset,  # (c,) or None
    r,
    r_sine,
    r_cosine,  # (b,) each, or None
    c,
    c_sine,
    c_cosine,  # (c,) each, or None
    demand,  # (c,) or None
    soft,  # (b, c) or None
    soft_demand,  # (c,) or None
    soft_row,
    soft_class,  # strides of soft
    largest,  # (programs, b) out
    total,  # (programs, b) out
    target_dot,  # (programs, b) out, or None
    start,
    classes,
    rows,
    K: tl.constexpr,
    RELAX: tl.constexpr,
    WRAPS: tl.constexpr,
    SPAN: tl.constexpr,
    CLASSES: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Write the maximum of the competitors' logits, the sum of exp(logit - maximum), and that of d times logit."""
    work = largest.dtype.element_ty
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    in_rows = row < rows
    label = (tl.load(labels + row, mask=in_rows, other=0) - start).to(tl.int32)
    s = tl.load(scale)
    if RELAX is not None:
        r_row = tl.load(r + row, mask=in_rows, other=0.0)
        r_row_sine = tl.load(r_sine + row, mask=in_rows, other=0.0)
        r_row_cosine = tl.load(r_cosine + row, mask=in_rows, other=0.0)
    top = tl.full([ROWS], float("-inf"), work)
    sums = tl.zeros([ROWS], work)
    demands = tl.zeros([ROWS], work)
    begin = tl.program_id(0) * SPAN
    for first in range(begin, tl.minimum(begin + SPAN, classes), CLASSES):
        each = first + tl.arange(0, CLASSES)
        in_classes = each < classes
        inside = in_classes[:, None] & in_rows[None, :]
        cosine, _ = _best(scores, inside, row, rows, first, work, CLASSES, K)
        if RELAX is not None:
            cosine, _ = _move(
                cosine,
                r_row,
                r_row_sine,
                r_row_cosine,
                tl.load(c + each, mask=in_classes, other=0.0),
                tl.load(c_sine + each, mask=in_classes, other=0.0),
                tl.load(c_cosine + each, mask=in_classes, other=0.0),
                RELAX,
                WRAPS,
            )
        logit = cosine * s
        if offset is not None:
            logit += tl.load(offset + each, mask=in_classes, other=0.0)[:, None]
        competes = inside & (each[:, None] != label[None, :])
        if demand is not None:
            d = _asked(
                demand, soft, soft_demand, soft_row, soft_class, row, each, inside, first, classes, work
            )
            demands += tl.sum(tl.where(competes, d * logit, 0.0), axis=0)
        logit = tl.where(competes, logit, float("-inf"))
        higher = tl.maximum(top, tl.max(logit, axis=0))
        base = tl.where(higher == float("-inf"), 0.0, higher)  # none competes yet
        sums = sums * tl.exp(top - base) + tl.sum(tl.exp(logit - base[None, :]), axis=0)
        top = higher
    place = tl.program_id(0).to(tl.int64) * rows + row
    tl.store(largest + place, top, mask=in_rows)
    tl.store(total + place, sums, mask=in_rows)
    if target_dot is not None:
        tl.store(target_dot + place, demands, mask=in_rows)


@triton.jit(do_not_specialize=["start", "classes"])
def gradient(
    scores,  # (c K, b) in and out
    labels,  # (b,) int64, counted as `start` is
    scale,  # ()
    offset,  # (c,) or None
    r,
    r_sine,
    r_cosine,  # (b,) each, or None
    c,
    c_sine,
    c_cosine,  # (c,) each, or None
    demand,  # (c,) or None
    soft,  # (b, c) or None
    soft_demand,  # (c,) or None
    soft_row,
    soft_class,  # strides of soft
    lse,  # (b,) as the logits here, without the constant shift
    mass,  # (b,)
    row_weight,  # (b,)
    own,  # (b,) what is written at the targets
    shift,  # () the constant margin in units of the score, or None
    grad_offset,  # (programs along b, c) out, or None
    grad_scale,  # (programs,) out, or None
    start,
    classes,
    rows,
    K: tl.constexpr,
    RELAX: tl.constexpr,
    WRAPS: tl.constexpr,
    SPAN: tl.constexpr,
    CLASSES: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Write (mass p - row_weight d) times the margin's slope over the scores, their own over the targets'."""
    work = lse.dtype.element_ty
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    in_rows = row < rows
    label = (tl.load(labels + row, mask=in_rows, other=0) - start).to(tl.int32)
    s = tl.load(scale)
    row_lse = tl.load(lse + row, mask=in_rows, other=0.0)
    row_mass = tl.load(mass + row, mask=in_rows, other=0.0)
    row_own = tl.load(own + row, mask=in_rows, other=0.0)
    if demand is not None:
        weight_of_row = tl.load(row_weight + row, mask=in_rows, other=0.0)
    if RELAX is not None:
        r_row = tl.load(r + row, mask=in_rows, other=0.0)
        r_row_sine = tl.load(r_sine + row, mask=in_rows, other=0.0)
        r_row_cosine = tl.load(r_cosine + row, mask=in_rows, other=0.0)
    by_scale = tl.zeros([ROWS], work)
    begin = tl.program_id(0) * SPAN
    for first in range(begin, tl.minimum(begin + SPAN, classes), CLASSES):
        each = first + tl.arange(0, CLASSES)
        in_classes = each < classes
        inside = in_classes[:, None] & in_rows[None, :]
        moved, winner = _best(scores, inside, row, rows, first, work, CLASSES, K)
        if RELAX is not None:
            moved, slope = _move(
                moved,
                r_row,
                r_row_sine,
                r_row_cosine,
                tl.load(c + each, mask=in_classes, other=0.0),
                tl.load(c_sine + each, mask=in_classes, other=0.0),
                tl.load(c_cosine + each, mask=in_classes, other=0.0),
                RELAX,
                WRAPS,
            )
        logit = moved * s
        if offset is not None:
            logit += tl.load(offset + each, mask=in_classes, other=0.0)[:, None]
        pull = tl.exp(logit - row_lse[None, :]) * row_mass[None, :]
        if demand is not None:
            d = _asked(
                demand, soft, soft_demand, soft_row, soft_class, row, each, inside, first, classes, work
            )
            pull -= d * weight_of_row[None, :]
        pull = tl.where(inside & (each[:, None] != label[None, :]), pull, 0.0)
        if grad_offset is not None:
            place = tl.program_id(1).to(tl.int64) * classes + each
            tl.store(grad_offset + place, tl.sum(pull, axis=1), mask=in_classes)
        if grad_scale is not None:
            by_scale += tl.sum(pull * (moved + tl.load(shift)), axis=0)
        if RELAX is not None:
            pull *= slope
        pull = tl.where(each[:, None] == label[None, :], row_own[None, :], pull)
        here = scores + tl.cast(first, tl.int64) * K * rows
        place = (tl.arange(0, CLASSES) * K)[:, None] * rows + row[None, :]
        for k in tl.static_range(K):
            mine = pull if K == 1 else tl.where(winner == k, pull, 0.0)
            tl.store(here + place + k * rows, mine.to(scores.dtype.element_ty), mask=inside)
    if grad_scale is not None:
        program = tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)
        tl.store(grad_scale + program, tl.sum(by_scale, axis=0))
