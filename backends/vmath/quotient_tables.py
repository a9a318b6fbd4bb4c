"""Quotients of polynomials: coefficients, lowest first; written by `fit`, do not edit."""

# log2(erfc(a/sqrt(2)) / 2), 0 <= a <= 14.45
LOG2_TAIL_ABOVE = {
    "float32": (  # |error| < 1.1e-8 of what is allowed
        -1.0,
        -1.726974606513977,
        -1.2716470956802368,
        -0.5036302208900452,
        -0.10880154371261597,
        -0.010537763126194477,
    ),
}
# its denominator
LOG2_TAIL_BELOW = {
    "float32": (  # |error| < 1.1e-8 of what is allowed
        1.0,
        0.5758708715438843,
        0.14953336119651794,
        0.014631509780883789,
        -2.6280957854396547e-07,
    ),
}
