"""What is done number by number, and to rows: sums, products, tables looked up, rotations."""

from handgrad.kernels.jit import kernel


@kernel
def add_to(total, x):
    """total += x."""
    for i in range(x.size):
        total[i] += x[i]


@kernel
def multiply(out, x, y):
    for i in range(x.size):
        out[i] = x[i] * y[i]


@kernel
def multiply_by(product, x):
    """product *= x."""
    for i in range(x.size):
        product[i] *= x[i]


@kernel
def add_rows(out, x, table):
    """out = x + table, whose T rows repeat."""
    M, D = x.shape
    T = table.shape[0]
    for m in range(M):
        row = table[m % T]
        for j in range(D):
            out[m, j] = x[m, j] + row[j]


@kernel
def gather(out, table, token_ids, scale):
    """out[m] = scale table[token_ids[m]]."""
    D = table.shape[1]
    for m in range(token_ids.size):
        row = table[token_ids[m]]
        for j in range(D):
            out[m, j] = scale * row[j]


@kernel
def scatter(dtable, dy, token_ids, scale):
    """dtable[token_ids[m]] += scale dy[m]."""
    D = dtable.shape[1]
    for m in range(token_ids.size):
        row = dtable[token_ids[m]]
        for j in range(D):
            row[j] += scale * dy[m, j]


@kernel
def turn(out, x, cos, sin, n_heads, sign):
    """Rotate neighbouring components of each head of x (B T, n_heads K): by sign 1, or back by -1."""
    T, half = cos.shape
    for m in range(x.shape[0]):
        c, s = cos[m % T], sin[m % T]
        for head in range(n_heads):
            first = head * 2 * half
            for i in range(half):
                even, odd = x[m, first + 2 * i], x[m, first + 2 * i + 1]
                out[m, first + 2 * i] = even * c[i] - sign * (odd * s[i])
                out[m, first + 2 * i + 1] = sign * (even * s[i]) + odd * c[i]
