r"""Texts in progress: from their next tokens to the logits of what follows, in one compiled call.

    tokens -> embedding, + positions -> L layers, keys and values into the cache -> norm -> head -> logits

The rows that are read at once are tokens of one text, of several, or both; each has a text and a position. In
a layer all rows write their keys and values before any row attends: a row sees the positions up to its own.
The formulas are those of the ops.

All threads of a team make the same call. Products are divided by columns and attention by heads; between them
they wait for each other (`barrier`). A number is computed by one thread, in the same order of sums whatever
the number of threads and of rows: so results are the same bits.
"""

from handgrad.kernels.jit import apart, kernel
from handgrad.kernels.norms import normalize
from handgrad.kernels.writing.activation import activate
from handgrad.kernels.writing.arrays import (
    DOWN,
    GATE,
    KEY,
    OUTPUT,
    PER_LAYER,
    QUERY,
    UP,
    VALUE,
    Kept,
    Rows,
    Team,
)
from handgrad.kernels.writing.attention import attention
from handgrad.kernels.writing.kept import reader
from handgrad.kernels.writing.products import (
    columns_of,
    convert,
    is_shared,
    multiply,
    needs_of,
    rows_of,
    share,
    wait,
)

kept = reader(Kept)
"""kept(at): the tuple in the table at an address."""


@apart
def embed(x, rows, small, scale):
    """x (R, D) = scaled embeddings, + positions."""
    for r in range(x.shape[0]):
        row, known = x[r], small.embedding[rows.token_ids[r]]
        for i in range(row.size):
            row[i] = scale * known[i]
        if small.positions.shape[0]:
            code = small.positions[rows.positions[r]]
            for i in range(row.size):
                row[i] += code[i]


@apart
def norm_rows(out, x, first, last, norms, layer, settings):
    for r in range(first, last):
        normalize(out[r], x[r], norms.gamma[layer], norms.beta[layer], settings.eps, settings.centred)


@apart
def normed(x, norms, has_norm, layer, needs, room, team, settings):
    """The operand norm(x), or x itself."""
    R, D = x.shape
    if not has_norm:
        return convert(x, D, R, needs, room, team)
    out = room.normed[0 if is_shared(R, team) else team.worker, :R]
    first, last = rows_of(R, team)
    norm_rows(out, x, first, last, norms, layer, settings)
    return convert(out, D, R, needs, room, team)


@apart
def add_columns(x, y, matrix, team):
    """x += y, in the columns that this thread has computed."""
    first, last = columns_of(matrix, team)
    for r in range(x.shape[0]):
        row, other = x[r, first:last], y[r, first:last]
        for i in range(row.size):
            row[i] += other[i]


@apart
def norm_in_place(x, norms, layer, team, settings):
    """After a sum, where norms stand there: rows are divided."""
    wait(team)
    first, last = share(x.shape[0], team)
    norm_rows(x, x, first, last, norms, layer, settings)
    wait(team)


@apart
def activate_columns(wide, matrix, layer, small, team, settings):
    """f(x), or f(gate) x, in the columns that this thread has computed."""
    first, last = columns_of(matrix, team)
    alpha = small.alpha[layer]
    for r in range(wide.shape[0]):
        row = wide[r, first:last]
        activate(row, settings.activation, alpha[first:last] if alpha.size > 1 else alpha)
        if settings.gated:
            other = wide[r, settings.up_column + first : settings.up_column + last]
            for i in range(row.size):
                row[i] *= other[i]


@apart
def attention_part(x, layer, weights, rows, cache, small, room, team, settings):
    """x += output(attention(norm(x)))"""
    R = x.shape[0]
    query, key, value = weights[QUERY], weights[KEY], weights[VALUE]
    needs = needs_of(query) | needs_of(key) | needs_of(value)
    seen = normed(x, small.norm1, settings.before, layer, needs, room, team, settings)
    multiply(room.wide, 0, seen, query, small.biases, room, team)
    multiply(room.wide, settings.key_column, seen, key, small.biases, room, team)
    multiply(room.wide, settings.value_column, seen, value, small.biases, room, team)
    wait(team)
    attention(room, team, cache, layer, rows, small, settings)
    wait(team)
    mixed = room.mixed[:R]
    operand = convert(mixed, mixed.shape[1], R, needs_of(weights[OUTPUT]), room, team)
    multiply(room.y, 0, operand, weights[OUTPUT], small.biases, room, team)
    add_columns(x, room.y, weights[OUTPUT], team)


@apart
def feed_forward_part(x, layer, weights, small, room, team, settings):
    """x += down(f(up(norm(x))))"""
    R = x.shape[0]
    needs = needs_of(weights[UP]) | needs_of(weights[GATE])
    seen = normed(x, small.norm2, settings.before, layer, needs, room, team, settings)
    if settings.gated:
        multiply(room.wide, 0, seen, weights[GATE], small.biases, room, team)
    multiply(room.wide, settings.up_column, seen, weights[UP], small.biases, room, team)
    activate_columns(room.wide[:R], weights[UP], layer, small, team, settings)
    wait(team)
    wide = room.wide[:R]
    operand = convert(wide, settings.ff_width, R, needs_of(weights[DOWN]), room, team)
    multiply(room.y, 0, operand, weights[DOWN], small.biases, room, team)
    add_columns(x, room.y, weights[DOWN], team)


@kernel
def read(logits, at, n_rows, n_last, worker, n_workers):
    """logits (n_last, V filled up) of what follows the first n_rows rows of the tuple `Kept` whose table is
    `at` an address; its cache grows by them."""
    every, matrices, cache, small, room, settings, place, arrivals = kept(at)
    rows = Rows(every.token_ids[:n_rows], every.texts[:n_rows], every.positions[:n_rows], every.last[:n_last])
    arrivals[worker, 0] = 0
    team = Team(worker, n_workers, place, arrivals[worker])
    x = room.x[:n_rows]
    if team.worker == 0:
        embed(x, rows, small, settings.scale)
    wait(team)
    for layer in range(settings.n_layers):
        weights = matrices[layer * PER_LAYER : (layer + 1) * PER_LAYER]
        attention_part(x, layer, weights, rows, cache, small, room, team, settings)
        if settings.before:
            wait(team)
        else:
            norm_in_place(x, small.norm1, layer, team, settings)
        feed_forward_part(x, layer, weights, small, room, team, settings)
        if settings.before:
            wait(team)
        else:
            norm_in_place(x, small.norm2, layer, team, settings)
    n, head = rows.last.size, matrices[settings.n_layers * PER_LAYER]
    last = room.y[:n, : x.shape[1]]
    if team.worker == 0:
        for i in range(n):
            to, source = last[i], x[rows.last[i]]
            for j in range(to.size):
                to[j] = source[j]
    wait(team)
    has_norm = small.last_norm.gamma.shape[1] > 0
    operand = normed(last, small.last_norm, has_norm, 0, needs_of(head), room, team, settings)
    multiply(logits, 0, operand, head, small.biases, room, team)
