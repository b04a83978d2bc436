# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 3. Walking downhill
#
# *After this lesson you can find the level places of a surface with pencil and paper and say what each of
# them is, walk down it with four methods whose formulas you can write, predict the learning rate at which a
# walk breaks, and tell a minimum from the lowest one, and both from a saddle.*
#
# A network has a loss: one number that says how wrong it is. All its weights together are a point, and the
# loss is the height of a landscape over it. Training is a walk to a low place, by someone who sees nothing
# but the slope under the feet. Networks have too many directions to draw. Here there are two, so everything
# can be seen; and much of what happens to networks later can be met here first.

# %%
import textwrap

import numpy as np

from handgrad.foundations import descent
from handgrad.foundations.descent import two_valleys, two_valleys_gradient
from handgrad.lessons import exercise, knobs, source
from handgrad.lessons.pictures import learning_rates as pictures
from handgrad.optim import adam, gradient_descent, momentum
from handgrad.plots import descent as maps

# %% [markdown]
# ## One step
#
# The surface of this lesson is
#
# $$f(x, y) = x^4 + x^2y^2 - y^2 + y^4 + 6.$$
#
# Its slope along $x$ is what one gets by treating $y$ as a constant, and the other way round:
#
# $$\frac{\partial f}{\partial x} = 4x^3 + 2xy^2,\qquad \frac{\partial f}{\partial y} = 2x^2y - 2y + 4y^3.$$
#
# At $(1, 1)$ the height is $1+1-1+1+6 = 8$ and the gradient $(4+2,\ 2-2+4) = (6, 4)$. It points uphill. So we
# step against it, by a small share $\eta$ of it, the *learning rate* (a *hyperparameter*: it is chosen, not
# learned):
#
# $$(x, y) \leftarrow (x, y) - \eta\,\nabla f(x, y)$$
#
# With $\eta = 0.01$ that leads to $(0.94, 0.96)$. How much lower is it there? Along a short way $s$ the
# height changes by about $\langle\nabla f, s\rangle$, and our way is $-\eta\nabla f$:
#
# $$\begin{aligned}
# f(\text{new}) - f(\text{old}) &\approx -\eta\,\langle\nabla f, \nabla f\rangle\\
# &= -0.01\cdot(36 + 16)\\
# &= -0.52
# \end{aligned}$$

# %%
start = np.array([1.0, 1.0])
new, _ = gradient_descent.update(
    start, two_valleys_gradient(start), gradient_descent.State(), learning_rate=0.01
)
change = two_valleys(new) - two_valleys(start)
print("from", start, "to", new)
print(f"height {two_valleys(start):.4f} -> {two_valleys(new):.4f}, change {change:.4f}")
print("gradient derived", two_valleys_gradient(new))
print("        measured", descent.central_differences(two_valleys, new))
source.show(gradient_descent.update)

# %% [markdown]
# The true change is a little less than predicted, because the slope became gentler on the way. This method
# is *gradient descent* (Cauchy, "Méthode générale pour la résolution des systèmes d'équations simultanées",
# 1847), and the rest of the lesson is about repeating it.
#
# ## Where the ground is level
#
# A walk can only end where the gradient is zero. Factor it:
#
# $$\begin{aligned}
# 2x\,(2x^2 + y^2) &= 0\\
# 2y\,(x^2 - 1 + 2y^2) &= 0
# \end{aligned}$$
#
# In the first equation the bracket is a sum of squares, zero only at the origin; so $x = 0$ in any case. Then
# the second reads $2y\,(2y^2 - 1) = 0$, and $y = 0$ or $y = \pm 1/\sqrt2$. Three level places:
#
# | place | height |
# |---|---|
# | $(0, +1/\sqrt2)$ | $-\tfrac12 + \tfrac14 + 6 = 5.75$ |
# | $(0, -1/\sqrt2)$ | the same, 5.75 |
# | $(0, 0)$ | 6 |
#
# What are they? The slope cannot say; it is zero at all three. The *curvature* can: how the slope changes as
# one moves. The derivatives of the gradient form a matrix, the *Hessian*:
#
# $$H = \begin{pmatrix} 12x^2 + 2y^2 & 4xy \\ 4xy & 2x^2 - 2 + 12y^2 \end{pmatrix}$$
#
# At the level places that is
#
# $$\begin{aligned}
# H_{\text{valleys}} &= \begin{pmatrix} 1 & 0\\ 0 & 4\end{pmatrix}\\[0.5em]
# H_{\text{origin}} &= \begin{pmatrix} 0 & 0\\ 0 & -2\end{pmatrix}
# \end{aligned}$$
#
# In the valleys the ground curves upwards both ways, with curvature 1 along $x$ and 4 along $y$: two
# *minima*. At the origin it curves downwards along $y$, so that is no minimum. Along $x$ the Hessian says
# 0, which decides nothing; but there $f(x, 0) = x^4 + 6$, and that rises on both sides. Up one way, down
# the other: a *saddle*.

# %%
for place in [(0, np.sqrt(0.5)), (0, -np.sqrt(0.5)), (0, 0)]:
    measured = descent.hessian(two_valleys, np.array(place))
    print(
        f"({place[0]}, {place[1]:+.4f})  height {two_valleys(place):.2f}, "
        f"curvature along x {measured[0, 0]:+.5f}, along y {measured[1, 1]:+.5f}: "
        f"{descent.stationary_kind(two_valleys, np.array(place))}"
    )

# %% [markdown]
# (Every measured curvature is too large by the same tiny amount: it is taken at a small distance, on purpose,
# and there $x^4$ and $y^4$ have begun to bend. At the saddle this amount is all that there is along $x$, and
# it says that the ground will rise.)
#
# ## The walk
#
# Now repeat the step until the slope $|\partial f/\partial x| + |\partial f/\partial y|$ is below $10^{-5}$.
# This project grew from two learners' reports. One of them walks down this very surface, with a learning rate
# of 0.01 and a brake: no step may be longer than 1, both coordinates added.
#
# $$(x, y) \leftarrow (x, y) - \frac{g}{\max(1/\eta,\ |g_x| + |g_y|)}$$
#
# Its two runs, again:

# %%
walks = {
    f"from {start}": descent.minimize(two_valleys, start, gradient=two_valleys_gradient, method="clipped")
    for start in [(1, 1), (-2, -2)]
}
for name, path in walks.items():
    print(f"{name}: {path.n_steps:,} steps, to ({path.end[0]:.6g}, {path.end[1]:.9f})")
second = two_valleys(walks["from (-2, -2)"].end)
print(f"height at the second end {second:.4f}, at (0, -7.07) {two_valleys((0, -7.07)):.4f}")

# %%
maps.surface(two_valleys, walks, window=((-2, 2), (-2, 2)))

# %% [markdown]
# 1,071 steps and 1,073: each counts one evaluation of the gradient, the last of which finds the ground level.
# The second ends at $y = -0.7071$, as we derived. The report once gives its minimum as $(0, -7.07)$, while
# its own output shows $-0.707$: a decimal point has moved. The minimum lies at $(0, -1/\sqrt2)$; at
# $(0, -7.07)$ the surface is more than 2,454 high. A derived result is a good judge of a printed one.
#
# Why 1,071? Near the minimum the slope along $x$ is $1\cdot x$, since the curvature there is 1. So each step
# leaves $x - 0.01\,x = 0.99\,x$: it takes 1 % off. Another digit costs $n$ steps with $0.99^n = 0.1$, so
# $n = \ln 10 / (-\ln 0.99) \approx 229$.

# %%
slopes = walks["from (1, 1)"].gradient_norms
below = [int(np.argmax(slopes < 10.0**-digit)) for digit in range(1, 6)]
print("steps until the slope is below 0.1, 0.01, ...:", below)
print(f"steps for each further digit: {np.diff(below)}  predicted: {np.log(10) / -np.log(0.99):.1f}")
print(f"what the last step left: {slopes[-1] / slopes[-2]:.5f}")
for path in walks.values():
    plain = descent.minimize(two_valleys, path.positions[0], gradient=two_valleys_gradient, method="plain")
    print("the same walk without the brake:", np.allclose(plain.positions, path.positions, atol=1e-12))

# %% [markdown]
# The last lines say that the brake was never touched: it acts only where the slope is above $1/\eta = 100$,
# and these starts have slopes of $6+4 = 10$ and $48+44 = 92$. What cost a thousand steps is the learning
# rate.
#
# ## The learning rate, on a parabola
#
# Near a minimum every smooth surface is nearly a parabola in every direction. So let us understand one,
#
# $$f(x) = \tfrac12 a x^2,\qquad f'(x) = a x,$$
#
# where $a > 0$ is its curvature. A step gives $x - \eta a x = (1 - \eta a)\,x$, and $t$ steps
#
# $$x_t = (1 - \eta a)^t\,x_0.$$
#
# Everything is in that factor. Between 0 and 1, the walk comes nearer from one side. At $\eta = 1/a$ it is 0:
# there in a single step, the *best* rate. Then it is negative: each step lands on the other side, but nearer.
# At $\eta = 2/a$ the factor is $-1$, to and fro for ever; beyond, each step leads farther away. So the walk
# converges if and only if $|1 - \eta a| < 1$, that is
#
# $$0 < \eta < \frac2a.$$
#
# Here $a = 1$. Find two pairs of rates that are equally fast.


# %%
def on_a_parabola(learning_rate):
    return pictures.parabola(learning_rate=learning_rate)


knobs.turn(on_a_parabola, learning_rate=[0.1, 0.5, 1.0, 1.5, 1.9, 2.0, 2.2])

# %% [markdown]
# (0.1 and 1.9, 0.5 and 1.5: their factors differ only in the sign.)
#
# ## The learning rate, in a valley
#
# A surface has several curvatures at a minimum, ours 1 along $x$ and 4 along $y$, and one learning rate for
# all. The steepest curvature $b$ sets the limit, $2/b$; the gentlest, $a$, is the one that is slow. The best
# rate is a compromise: it leaves as much of one as of the other, once before and once behind the minimum.
# From $1 - \eta a = \eta b - 1$ follow this rate, and what it leaves per step:
#
# $$\eta = \frac{2}{a+b},\qquad 1 - \eta a = \frac{b-a}{b+a}$$
#
# For us $\eta = 2/5$, which leaves $3/5$; the limit is $1/2$.

# %%
pictures.factors((1.0, 4.0))

# %% [markdown]
# So would 0.4 have been forty times as fast as 0.01? In the valley even faster, since
# $\ln 0.6/\ln 0.99 \approx 51$. But the start is not in the valley. At $(1, 1)$ the Hessian is
# $\begin{pmatrix} 14 & 4\\ 4 & 12\end{pmatrix}$, with the curvatures $13 \pm \sqrt{17}$; the larger one is
# above 17, and $2/17$ is less than 0.12. Turn the knob past it.


# %%
def on_the_map(learning_rate):
    path = descent.minimize(two_valleys, (1, 1), gradient=two_valleys_gradient, learning_rate=learning_rate)
    label = f"rate {learning_rate:g}, {path.n_steps:,} steps"
    return maps.contours(two_valleys, {label: path}, window=((-1.5, 1.5), (-1.5, 1.5)))


knobs.turn(on_the_map, learning_rate=[0.01, 0.1, 0.2, 0.3, 0.4])

# %% [markdown]
# Up to 0.1 the walk is the same one, taken faster. At 0.2 it overshoots. At 0.3 the first step jumps
# over the ridge, and the walk ends in the *other* valley: not wrong, but nothing one could have predicted
# from the map. At 0.4 it is gone: its second step leaves the map. That is the practice of learning rates in
# networks too: the curvature along the way is not known, so one tries rates, and takes one well below the
# first that breaks.
#
# ## Momentum
#
# If a valley is a hundred times steeper across than along, $b = 100a$, then even the best rate leaves
# $99/101$ per step. Across the valley the steps jump from wall to wall; along it they creep. But look at the
# gradients: those across change their sign from step to step, and those along it all agree. So add them up.
# What alternates will cancel, and what agrees will grow:
#
# $$v \leftarrow \beta\,v + \nabla f,\qquad x \leftarrow x - \eta\,v$$
#
# $v$ is a velocity, worn down by friction: $\beta = 0.9$ keeps nine tenths of it (Polyak, "Some methods of
# speeding up the convergence of iteration methods", 1964). On a steady slope $g$ it becomes
# $g\,(1 + \beta + \beta^2 + \dots) = g/(1-\beta)$, ten times the gradient.

# %%
position, state = np.zeros(1), momentum.init(np.zeros(1))
for _ in range(60):
    position, state = momentum.update(position, np.ones(1), state, learning_rate=0.01)
print(f"velocity on a slope of 1 after 60 steps: {state.velocity[0]:.3f}")
source.show(momentum.update)

# %% [markdown]
# What does it do on the parabola? The step just taken is $-\eta v_t = x_t - x_{t-1}$, so
#
# $$\begin{aligned}
# x_{t+1} &= x_t - \eta\,(\beta v_t + a x_t)\\
# &= (1 + \beta - \eta a)\,x_t - \beta\,x_{t-1}.
# \end{aligned}$$
#
# Each point depends on two before it. Try $x_t = \lambda^t$: it is a solution if
#
# $$\lambda^2 - (1 + \beta - \eta a)\,\lambda + \beta = 0.$$
#
# The product of the two roots is $\beta$. Where they are complex they are conjugate, of equal size, so each
# has the size $\sqrt\beta$: *whatever the learning rate and the curvature*. That is a level floor, on which
# steep and gentle directions shrink equally fast. It reaches over the rates where the root of
# $(1+\beta-\eta a)^2 - 4\beta$ is imaginary,
#
# $$(1 - \sqrt\beta)^2 < \eta a < (1 + \sqrt\beta)^2,$$
#
# and the walk breaks where a root reaches $-1$, which put into the equation gives $\eta a = 2(1+\beta)$:
# with $\beta = 0.9$ nearly twice what plain descent can bear. Turn $\beta$ up and see the floor come in; then
# make the valley narrower.


# %%
def left_after_a_step(narrowness, beta):
    return pictures.factors((1.0, narrowness), beta=beta)


knobs.turn(left_after_a_step, narrowness=[4.0, 25.0, 100.0], beta=[0.0, 0.5, 0.7, 0.9])

# %% [markdown]
# In the narrowest valley, $\beta = 0.9$ leaves $\sqrt{0.9} \approx 0.949$ instead of $99/101 \approx 0.980$.
# That looks like little; but $\ln 0.949 / \ln 0.980 \approx 2.6$, so plain descent takes 2.6 times as many
# steps. In the wide valley so much momentum is *worse* than none: there is so little friction that the walk
# rolls past the minimum again and again. Each narrowness has its own best $\beta$.
#
# ## Adam
#
# Another way to say what is wrong with one rate for all directions: give each coordinate a rate of its own.
# Adam (Kingma & Ba, "Adam: a method for stochastic optimization", 2014) divides each coordinate's step by
# the recent size of that coordinate's gradient. It keeps two running averages, of the gradient and of its
# square,
#
# $$m \leftarrow \beta_1 m + (1-\beta_1)\,g,\qquad s \leftarrow \beta_2 s + (1-\beta_2)\,g^2,$$
#
# which both begin at 0 and so are too small at first. By how much? Let $g$ be constant. After $t$ steps $m$
# is
#
# $$\begin{aligned}
# &(1-\beta_1)\,g\,(1 + \beta_1 + \dots + \beta_1^{t-1})\\
# &= (1 - \beta_1^t)\,g,
# \end{aligned}$$
#
# so dividing by $1-\beta_1^t$ makes it right from the first step on, and likewise for $s$:
#
# $$\hat m = \frac{m}{1-\beta_1^t},\qquad \hat s = \frac{s}{1-\beta_2^t},\qquad
# x \leftarrow x - \eta\,\frac{\hat m}{\sqrt{\hat s} + \epsilon}.$$
#
# At the first step $\hat m = g$ and $\sqrt{\hat s} = |g|$: *every coordinate moves by $\eta$*, however
# steep or gentle its slope. From $(1, 1)$ with $\eta = 0.01$ that is to $(0.99, 0.99)$.

# %%
moved, state = adam.update(start, two_valleys_gradient(start), adam.init(start), learning_rate=0.01)
print("after one step:", moved)
source.show(adam.update)

# %% [markdown]
# What this buys is independence of scale. Multiply the surface by 1,000, as if the loss were counted in
# another unit: every gradient is 1,000 times as long, and the quotient stays what it was.

# %%
for method in ("plain", "momentum", "adam"):
    ends = []
    for scale in (1.0, 1000.0):
        path = descent.minimize(
            lambda p, scale=scale: scale * two_valleys(p), (1, 1), method=method, max_steps=50,
            gradient=lambda p, scale=scale: scale * two_valleys_gradient(p),
        )  # fmt: skip
        ends.append(f"x{scale:g}: {path.outcome} at {np.array2string(path.end, precision=6)}")
    print(f"{method:>8}  " + "   ".join(ends))

# %% [markdown]
# Only Adam's walk ends where it ended before.
#
# The report that walked down this surface says of Adam that its rate is dynamic, and that it takes fewer
# steps. Both can be measured. Here are its two starts again, with four methods:

# %%
ways = {
    "plain 0.01": ("plain", 0.01),
    "Adam 0.01": ("adam", 0.01),
    "Adam 0.1": ("adam", 0.1),
    "momentum 0.01": ("momentum", 0.01),
}
compared = {
    name: [
        descent.minimize(two_valleys, from_, gradient=two_valleys_gradient, method=method, learning_rate=rate)
        for from_ in ((1, 1), (-2, -2))
    ]
    for name, (method, rate) in ways.items()
}
print("steps           from (1, 1)  from (-2, -2)")
for name, paths in compared.items():
    print(f"{name:14}  {paths[0].n_steps:11,}  {paths[1].n_steps:13,}")
pictures.effective_rates(
    {name: compared[name][0] for name in ("plain 0.01", "Adam 0.01", "Adam 0.1")}, two_valleys_gradient
)

# %% [markdown]
# The picture has the *effective rate* of each step, how far $x$ went for each unit of its slope. Plain
# descent's is constant. Adam's is small where slopes are steep, and grows as they become gentle: dynamic
# indeed. Fewer steps it takes only with a learning rate that suits it. At the rate of plain descent each of
# its steps is at most about 0.01 long, so that from $(-2, -2)$ it needs hundreds of them merely to arrive,
# and then the old, steep slopes are long in its memory of squares; with 0.1 it is the faster one. And
# momentum at 0.01 is as fast: fewer steps are not Adam's alone.
#
# And in the narrow valley, $f = \tfrac12(x^2 + 100\,y^2)$?
# Plain descent gets its best rate, $2/101$; the others rates at which they do well.


# %%
def narrow(point):
    return (point[0] ** 2 + 100 * point[1] ** 2) / 2


def narrow_gradient(point):
    return np.array([point[0], 100 * point[1]])


rates = {"plain": 2 / 101, "momentum": 0.02, "adam": 0.05}
narrow_walks = {
    method: descent.minimize(narrow, (1, 0.1), gradient=narrow_gradient, method=method, learning_rate=rate)
    for method, rate in rates.items()
}
for method, path in narrow_walks.items():
    print(f"{method:>8}: {path.n_steps} steps, {path.outcome}")


def through_the_narrow_valley(method):
    label = f"{method}, rate {rates[method]:.3g}"
    return maps.contours(narrow, {label: narrow_walks[method]}, window=((-0.5, 1.1), (-0.8, 0.8)))


knobs.turn(through_the_narrow_valley, method=list(rates))

# %%
maps.progress(narrow_walks)

# %% [markdown]
# Both take about a third of the steps of plain descent, in different ways. Momentum rolls on, from wall to
# wall and past the minimum before it turns. Adam sets out along the diagonal, since both coordinates move
# equally far, whatever their slopes; it has a momentum of its own, and rolls past as well. No method is the
# fastest everywhere. Transformers are trained with Adam (handgrad's `adamw` is its variant with weight
# decay) because their weights have gradients of very different sizes, and one learning rate must serve them
# all.
#
# ## Where one starts
#
# Tilt the surface a little: `tilted_valleys` is $f + \tfrac14 y$. The gradient gains $\tfrac14$ along $y$,
# so on $x = 0$ the level places are where $4y^3 - 2y + \tfrac14 = 0$, and one valley is now deeper than the
# other.

# %%
for y in sorted(np.roots([4, 0, -2, descent.TILT])):
    kind = descent.stationary_kind(descent.tilted_valleys, np.array([0, y]))
    print(f"(0, {y:+.4f})  height {descent.tilted_valleys((0, y)):.4f}  {kind}")
tilted_walks = {
    f"from (0.5, {y:g})": descent.minimize(
        descent.tilted_valleys, (0.5, y), gradient=descent.tilted_valleys_gradient
    )
    for y in (1.0, 0.2, 0.1, -1.0)
}
maps.contours(descent.tilted_valleys, tilted_walks, window=((-1.2, 1.2), (-1.2, 1.2)))

# %% [markdown]
# All four walks converged, at places where the ground is level and curves upwards. Two of them are in the
# shallow valley, and nothing that they can see tells them so: gradient descent finds *a* minimum, a *local*
# one, and not necessarily the lowest. The start decides, and near the border between the valleys a small
# difference is enough.
#
# Where is that border? Let every point of a map be a start. With what lesson 1 taught, all walks are taken at
# once: the starts are one array of shape $(2, 161, 161)$, and the tilt, of shape $(2, 1, 1)$, is broadcast.

# %%
window = ((-1.6, 1.6), (-1.5, 1.5))
starts = np.array(np.meshgrid(*(np.linspace(*side, 161) for side in window)))
tilt = np.array([0.0, descent.TILT])[:, None, None]
minima = {"$f$ = 5.57": (0.0, -0.7628), "$f$ = 5.92": (0.0, 0.6335)}


def borders(learning_rate):
    points = starts
    with np.errstate(all="ignore"):  # some fly away
        for _ in range(300):
            points = points - learning_rate * (two_valleys_gradient(points) + tilt)
    return pictures.basins(points, minima, window=window, function=descent.tilted_valleys)


knobs.turn(borders, learning_rate=[0.05, 0.2, 0.3])

# %% [markdown]
# With a small rate there is one border, through the saddle, and it is a property of the surface. With
# larger ones the map is cut up anew: steps jump over the ridge from one valley into the other, and starts on
# steep ground (hatched) fly away. What a walk finds depends on the surface, on the start, and on the steps.
#
# ## Exactly on the ridge
#
# Back to the untilted surface, and to a start with $y = 0$ *exactly*. Then the slope along $y$, which is
# $2y\,(x^2 - 1 + 2y^2)$, is exactly 0 and stays so. The walk goes along $x$ alone, straight to the saddle,
# and converges there: the slope is as good as zero, and the slope is all it knows.

# %%
ridge, beside = (
    descent.minimize(two_valleys, (1, y), gradient=two_valleys_gradient, learning_rate=0.1)
    for y in (0.0, 1e-9)
)
print(textwrap.fill(f"On the ridge: {ridge.explanation}", 90))
print(f"last x: {ridge.end[0]:.5f}, predicted below: {1 / np.sqrt(8 * 0.1 * ridge.n_steps):.5f}\n")
print(textwrap.fill(f"Beside it: {beside.explanation}", 90))

# %% [markdown]
# It takes long, because along $x$ there is no curvature to shrink it, only $x^4$. From
# $x_{t+1} = x_t\,(1 - 4\eta x_t^2)$ follows, for small $x$,
#
# $$\frac{1}{x_{t+1}^2} \approx \frac{1}{x_t^2}\,(1 + 8\eta x_t^2) = \frac{1}{x_t^2} + 8\eta.$$
#
# Every step adds $8\eta$. So after many of them $1/x_t^2 \approx 8\eta t$, that is
#
# $$x_t \approx \frac{1}{\sqrt{8\eta t}},$$
#
# no longer a fixed share per step, but ever slower. The last $x$ above agrees.
#
# The second start is a billionth beside the ridge. Near the saddle the curvature along $y$ is $-2$, so each
# step *multiplies* $y$ by $1 + 2\eta = 1.2$: a hundred steps make a billionth into nearly a tenth, and the
# walk is off to the valley. That is why saddles, of which landscapes of many dimensions are thought to have
# far more than minima (Dauphin et al., "Identifying and attacking the saddle point problem in
# high-dimensional non-convex optimization", 2014), hold up a walk rather than catch it: it would have to
# hit the ridge to the last digit. `descent.minimize` looks at the curvature where it stops, and says what
# it found.
#
# ## Exercises
#
# Replace the three dots, run the cell, and run the one after it: it judges your answer. Our answers are
# folded away behind each exercise.
#
# ### Exercise 1: another surface
#
# A valley that bends (after Rosenbrock, "An automatic method for finding the greatest or least value of a
# function", 1960; with 10 in the place of his 100):
#
# $$f(x, y) = (1 - x)^2 + 10\,(y - x^2)^2$$
#
# Derive its gradient by hand, and return it as an array of two numbers. `x, y = point` takes the point apart.
# The judge measures the slopes.


# %% tags=["exercise"]
def bent_gradient(point):
    return ...


# %% tags=["check"]
def bent(point):
    x, y = point
    return (1 - x) ** 2 + 10 * (y - x**2) ** 2


def measured_gradient(point):
    return descent.central_differences(bent, point)


points = [np.array(point) for point in [(1.0, 2.0), (-1.0, 0.5), (0.3, -0.7), (2.0, 1.0)]]
exercise.function(bent_gradient, measured_gradient, *points)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# As in “One step”, treat $y$ as a constant for the slope along $x$, and $x$ for that along $y$. Each term is
# a square $u^2$: how does its inside $u$ change when $x$ rises, and how when $y$ does?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# When $u$ rises by a small $k$, $u^2$ rises by about $2uk$. So the slope of $u^2$ along $x$ is $2u$ times the
# slope of $u$ along $x$, with $u = 1-x$ in the first term and $u = y-x^2$ in the second, and likewise along
# $y$.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# Along $x$ the slope of $1-x$ is $-1$ and that of $y-x^2$ is $-2x$; along $y$ they are 0 and 1. Insert each
# into $2u$ times the slope of $u$, keep the factor 10 of the second term, and add the two terms.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# $y - x^2$ depends on $x$ with the slope $-2x$. So the derivative by $x$ is
# $-2(1-x) + 20\,(y-x^2)\cdot(-2x)$, that by $y$ is $20\,(y-x^2)$.
#
# </details>


# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
def bent_gradient(point):
    x, y = point
    return np.array([-2 * (1 - x) - 40 * x * (y - x**2), 20 * (y - x**2)])


exercise.function(bent_gradient, measured_gradient, *points)

# %% [markdown]
# With its gradient the surface can be walked. All three methods go down the nearest wall, and then along the
# bent floor to $(1, 1)$, the minimum:

# %%
bent_walks = {
    method: descent.minimize(bent, (-1, 1.5), gradient=bent_gradient, method=method, learning_rate=rate)
    for method, rate in (("plain", 0.01), ("momentum", 0.003), ("adam", 0.05))
}
maps.contours(bent, bent_walks, window=((-1.6, 1.6), (-1.2, 2.0)))

# %% [markdown]
# ### Exercise 2: three learning rates, before you try
#
# For $f(x) = 3x^2 - 12x + 5$, predict three numbers: `limit`, the learning rate up to which plain descent
# converges; `best`, the one with which it is there after a single step; and `limit_with_momentum`, the one up
# to which momentum with $\beta = 0.5$ converges. The judge walks, and narrows the limits down by bisection.

# %% tags=["exercise"]
limit, best, limit_with_momentum = ..., ..., ...


# %% tags=["check"]
def distance_after(n_steps, rate, beta=0.0):
    x, state = np.array(0.0), momentum.init(np.array(0.0))
    for _ in range(n_steps):
        x, state = momentum.update(x, 6 * x - 12, state, learning_rate=rate, beta=beta)
    return abs(x - 2)


def measured_limit(beta):
    low, high = 0.01, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if distance_after(400, middle, beta) < 2 else (low, middle)
    return low


def measured_rates():
    best = min(np.linspace(0.01, 1, 9901), key=lambda rate: distance_after(1, rate))
    return measured_limit(0.0), best, measured_limit(0.5)


exercise.value((limit, best, limit_with_momentum), measured_rates, tolerance=2e-3)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# In “The learning rate, on a parabola” and at the end of “Momentum”, all three rates depend on one property
# of the function. Which one is it, and does it change when the minimum is not at 0?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Complete the square, $3x^2 - 12x + 5 = 3\,(x-2)^2 - 7$, and compare it with $\tfrac12 a x^2$ to find the
# curvature $a$. The limit and the best rate follow from the factor $1 - \eta a$, the third number from the
# limit with momentum.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# The factor before the square is $\tfrac12 a$ and not $a$. The limit is where $1 - \eta a = -1$, the best
# rate where $1 - \eta a = 0$, and momentum breaks at $\eta a = 2(1+\beta)$; solve each for $\eta$.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# The curvature is $f'' = 6$ everywhere; where the minimum lies does not matter. So the limit is
# $2/6$, the best rate $1/6$, and with momentum the limit is $2(1 + 0.5)/6 = 1/2$.
#
# </details>

# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
limit, best, limit_with_momentum = 1 / 3, 1 / 6, 1 / 2
exercise.value((limit, best, limit_with_momentum), measured_rates, tolerance=2e-3)

# %% [markdown]
# ### Exercise 3: momentum as an average
#
# Some books keep a running *average* of the gradients, as Adam does, in the place of their sum:
#
# $$m \leftarrow \beta\,m + (1-\beta)\,g$$
#
# Write one step with that average. Return the new `weights` and the new `mean`, in this order, so that with
# the same `learning_rate` and `beta` it visits the same points as `handgrad.optim.momentum`. The judge
# compares.


# %% tags=["exercise"]
def averaging_step(weights, gradient, mean, learning_rate, beta):
    return ..., ...


# %% tags=["check"]
def step_of_the_library(weights, gradient, mean, learning_rate, beta):
    state = momentum.State(velocity=mean / (1 - beta))
    weights, state = momentum.update(weights, gradient, state, learning_rate=learning_rate, beta=beta)
    return weights, (1 - beta) * state.velocity


first = (np.array([1.0, 1.0]), np.array([6.0, 4.0]), np.zeros(2), 0.01, 0.9)
later = (np.array([0.5, -1.0]), np.array([-1.0, 2.0]), np.array([0.3, 0.1]), 0.1, 0.5)
exercise.function(averaging_step, step_of_the_library, first, later)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Write $m$ and the velocity $v$ of “Momentum” side by side for the first two steps, both beginning at 0. By
# which factor do they differ?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Suppose that $m = (1-\beta)\,v$ holds before a step; the two rules show that it then holds after it too.
# Both methods visit the same points if they take the same step, so express $\eta\,v$ by $m$.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# Update the mean first, then take the step with the new mean, as momentum does with its new velocity. The
# step is $-\eta\,v$ with $v = m/(1-\beta)$, so the rate before the mean is not `learning_rate` alone.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# The average is the sum times $1-\beta$, at every step: multiply $v \leftarrow \beta v + g$ by
# $1-\beta$ to see it. So $v = m/(1-\beta)$, and the learning rate is to be divided by $1-\beta$. The same
# `learning_rate=0.01` thus means steps that differ tenfold in the two forms: worth knowing when one compares
# two papers.
#
# </details>


# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
def averaging_step(weights, gradient, mean, learning_rate, beta):
    mean = beta * mean + (1 - beta) * gradient
    return weights - learning_rate / (1 - beta) * mean, mean


exercise.function(averaging_step, step_of_the_library, first, later)

# %% [markdown]
# ### Exercise 4: caught by the saddle
#
# The start $(1, 1)$ lies far from the ridge $y = 0$. And yet there is a learning rate with which plain
# descent on `two_valleys` from $(1, 1)$ ends on the saddle. Derive it: where should the first step lead?

# %% tags=["exercise"]
rate_to_the_saddle = ...


# %% tags=["check"]
def ends_on_the_saddle(rate):
    path = descent.minimize(two_valleys, (1, 1), gradient=two_valleys_gradient, learning_rate=rate)
    return path.kind == "saddle"


exercise.claim(rate_to_the_saddle, ends_on_the_saddle, "a walk that converges to the saddle")

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# “Exactly on the ridge” says which points lead to the saddle. Can a single step from $(1, 1)$ land on one of
# them?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The first step leads to $(1 - \eta g_x,\ 1 - \eta g_y)$, with the gradient $(g_x, g_y)$ at $(1, 1)$ from
# “One step”. The ridge is $y = 0$, so one of these coordinates must become exactly 0; the other may be any
# number that is not too large.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# It is the second coordinate, and $g_y = 4$ there: set $1 - 4\eta$ to zero and solve for $\eta$. Give the
# rate exactly, because with a $y$ that is only nearly 0 the walk leaves the ridge.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# A walk that is on the ridge stays there, so let the first step lead to $y = 0$ exactly. The
# gradient at the start is $(6, 4)$: $1 - 4\eta = 0$, so $\eta = 1/4$. From $(-\tfrac12, 0)$ the walk follows
# the ridge. A rate that is off by a hair leaves a $y$ that grows from step to step.
#
# </details>

# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
rate_to_the_saddle = 0.25
exercise.claim(rate_to_the_saddle, ends_on_the_saddle, "a walk that converges to the saddle")

# %% [markdown]
# ## Where next
#
# You can walk down any surface whose gradient you have. The next lesson, *The perceptron*, takes the first
# machine that learned, and asks what it can learn and what it never will.
