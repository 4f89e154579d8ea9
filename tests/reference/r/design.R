# Columns of X and Z as R and lme4 build them, for 12 unbalanced rows: tests/reference/design.json
suppressWarnings(suppressMessages({library(lme4); library(splines); library(jsonlite)}))
options(contrasts = c("contr.treatment", "contr.poly"))
d <- data.frame(
  y = c(0, 1, 1, 0, 1, 0, 0, 1, 1, 0, 1, 0),
  x = c(1.5, 0.2, 3.1, 2.2, -1.0, 0.7, 1.1, 2.9, 0.4, -0.3, 1.8, 2.5),
  g = c("q", "p", "r", "q", "s", "p", "r", "s", "q", "p", "s", "r"),
  h = c("v", "u", "u", "u", "v", "v", "u", "v", "u", "u", "u", "v"),
  f = c("B", "A", "C", "A", "B", "C", "A", "A", "B", "C", "B", "C"))
fac <- d; for (k in c("g", "h", "f")) fac[[k]] <- factor(d[[k]])
matrices <- function(m) lapply(seq_len(nrow(m)), function(i) signif(unname(m[i, ]), 15))
fixed <- list("y ~ x", "y ~ 0 + f", "y ~ f - 1 + x", "y ~ x * f", "y ~ f / x", "y ~ (x + f + h)^2",
  "y ~ C(f, contr.sum)", "y ~ C(f, contr.helmert)", "y ~ I(x^2) + log(x + 2)", "y ~ scale(x)",
  "y ~ poly(x, 3)", "y ~ bs(x, df = 4)", "y ~ f:x", "y ~ I(x > 1)")
fixed <- lapply(fixed, function(f) list(formula = f, X = matrices(model.matrix(as.formula(f), fac))))
random <- list("y ~ (1 | g)", "y ~ (x | g)", "y ~ (0 + x | g)", "y ~ (x || g)", "y ~ (1 | h/g)", "y ~ (1 | h:g)",
  "y ~ (1 | f/h/g)", "y ~ (f | g)", "y ~ (0 + f | g)", "y ~ (f || g)", "y ~ (x * f || h)", "y ~ (1 | g) + (x | h)",
  "y ~ (1 | g) + (0 + x | g)", "y ~ (I(x^2) | h)")
ctl <- lmerControl(check.nobs.vs.nRE = "ignore", check.nobs.vs.nlev = "ignore", check.nobs.vs.rankZ = "ignore")
random <- lapply(random, function(f) {
  re <- lFormula(as.formula(f), fac, control = ctl)$reTrms
  list(formula = f, columns = lengths(re$cnms, use.names = FALSE), n_theta = length(re$theta),
       Z = lapply(re$Ztlist, function(z) matrices(t(as.matrix(z)))) |> unname())
})
out <- list(provenance = paste0("r/design.R, R ", getRversion(), ", lme4 ", packageVersion("lme4"),
  "; X is model.matrix, Z one dense matrix per random term as lFormula orders them"), data = d, fixed = fixed, random = random)
write_json(out, "../design.json", dataframe = "columns", auto_unbox = TRUE, digits = 15)
