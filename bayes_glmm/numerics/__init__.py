"""Arrays in, arrays out: the numerical kernels. Nothing here knows a model or a data frame."""
