# %% exercise 1: only what is read is counted
bytes_in_three_passes = 4 + 4 + 4
bytes_in_one_pass = 4
intensity_of_three_passes = 5 / 12
intensity_of_one_pass = 5 / 4

# %% exercise 1: intensity the wrong way round
bytes_in_three_passes = 20
bytes_in_one_pass = 8
intensity_of_three_passes = 20 / 5
intensity_of_one_pass = 8 / 5


# %% exercise 2: cut instead of rounded
def round_bits(bits):
    return bits & 0xFFFF0000


# %% exercise 2: what is half-way goes up instead of to the even one
def round_bits(bits):
    return (bits + 0x8000) & 0xFFFF0000


# %% exercise 3: the plain mean of the parts
def join(gradients, counts):
    return sum(gradients) / len(gradients)


# %% exercise 3: the plain sum of the parts
def join(gradients, counts):
    return sum(gradients)
