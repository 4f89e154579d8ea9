# Kenward & Roger's adjusted covariance, degrees of freedom and F tests by pbkrtest, and Satterthwaite's F tests by lmerTest;
# run from the project's root. lmer is restarted with tight tolerances: its usual end is good to about 1e-4 in theta.
suppressMessages({library(lme4); library(lmerTest); library(pbkrtest); library(jsonlite)})
csv <- "bayes_glmm/datasets"
tight <- lmerControl(optimizer = "nloptwrap", check.conv.singular = "ignore",
                     optCtrl = list(xtol_abs = 1e-13, xtol_rel = 0, ftol_abs = 1e-15, ftol_rel = 0, maxeval = 1e5))
out <- list()

# `tests` are vectors of coefficients, all zero under the hypothesis
entry <- function(id, formula, data, tests = list(), keep = FALSE) {
  m <- lmer(formula, data, REML = TRUE, control = tight)
  for (i in 1:3) m <- update(m, start = getME(m, "theta"))
  beta <- fixef(m); V <- as.matrix(vcov(m)); p <- length(beta)
  adjusted <- vcovAdj(m); plain <- as.matrix(adjusted)
  one <- function(names) {
    L <- diag(p)[match(names, names(beta)), , drop = FALSE]
    stopifnot(nrow(L) == length(names), !anyNA(L))
    k <- KRmodcomp(m, L)
    kr <- list(F = getKR(k, "Fstat"), ddf = getKR(k, "ddf"), scale = getKR(k, "F.scaling"), p = getKR(k, "p.value"))
    s <- contest(m, L, ddf = "Satterthwaite")
    list(terms = names, kenward_roger = kr,
         satterthwaite = list(F = s[["F value"]], ddf = s[["DenDF"]], p = s[["Pr(>F)"]]))
  }
  found <- list(formula = paste(deparse(formula, width.cutoff = 500), collapse = " "), loglik = as.numeric(logLik(m)),
                theta = unname(getME(m, "theta")), sigma = sigma(m), terms = names(beta), beta = unname(beta),
                vcov = unname(V), vcov_adjusted = unname(plain),
                df = sapply(1:p, function(i) Lb_ddf(diag(p)[i, ], V, adjusted)), tests = lapply(tests, one))
  if (keep) found$data <- data
  out[[id]] <<- found
}

sleep <- read.csv(file.path(csv, "sleepstudy.csv")); sleep$subject <- factor(sleep$subject)
both <- list(c("(Intercept)", "days"))
entry("sleepstudy_slope", reaction ~ days + (days | subject), sleep, both)
entry("sleepstudy_uncor", reaction ~ days + (days || subject), sleep, both)
entry("sleepstudy_ri", reaction ~ days + (1 | subject), sleep, both)
# every third day, and some subjects only early ones: unbalanced
few <- subset(sleep, days %% 3 == 0 & !(as.integer(subject) %% 4 == 0 & days > 3))
entry("sleepstudy_few", reaction ~ days + (days | subject), few, both)

entry("penicillin", diameter ~ 1 + (1 | plate) + (1 | sample), read.csv(file.path(csv, "penicillin.csv")))

pigs <- read.csv(file.path(csv, "dietox.csv"))
pigs$evit <- factor(pigs$evit, levels = c("Evit000", "Evit100", "Evit200"))
pigs$cu <- factor(pigs$cu, levels = c("Cu000", "Cu035", "Cu175"))
pigs$pig <- factor(pigs$pig); pigs$litter <- factor(pigs$litter)
diets <- list(c("evitEvit100", "evitEvit200"), c("cuCu035", "cuCu175"),
              c("evitEvit100", "evitEvit200", "cuCu035", "cuCu175"))
entry("dietox_slope", weight ~ time + evit + cu + (time | pig), pigs, diets)
entry("dietox_nested", weight ~ time + evit + cu + (1 | litter) + (1 | pig), pigs, diets)

sires <- read.csv(file.path(csv, "sires.csv"))
sires$sire <- factor(sires$sire); sires$herd <- factor(sires$herd); sires$sex <- factor(sires$sex, levels = c("heifer", "bull"))
entry("sires", weight ~ sex + (1 | sire) + (1 | herd), sires,
      list(c("(Intercept)", "sexbull")))

# a split plot of 8 whole plots, three cells of it lost; z has no variance between plots, on the boundary
set.seed(20)
cells <- expand.grid(b = c("b1", "b2", "b3"), plot = paste0("p", 1:8))
cells$a <- ifelse(as.integer(cells$plot) <= 4, "a1", "a2")
cells$y <- round(10 + (cells$a == "a2") + 0.5 * (cells$b == "b3") + rnorm(8, sd = 1.5)[as.integer(cells$plot)] + rnorm(24), 2)
noise <- rnorm(24)
cells$z <- round(10 + noise - 0.8 * ave(noise, cells$plot), 2)
cells <- cells[-c(2, 12, 22), ]
for (k in c("a", "b", "plot")) cells[[k]] <- factor(cells[[k]])
terms <- list(c("bb2", "bb3"), c("aa2:bb2", "aa2:bb3"), c("aa2", "aa2:bb2", "aa2:bb3"))
entry("split_plot", y ~ a * b + (1 | plot), cells, terms, keep = TRUE)
entry("split_plot_zero", z ~ a * b + (1 | plot), cells, terms, keep = TRUE)

write_json(list(source = paste("R", getRversion(), "lme4", packageVersion("lme4"), "pbkrtest", packageVersion("pbkrtest"),
                               "lmerTest", packageVersion("lmerTest")), entries = out),
           "tests/reference/kenward_roger.json", digits = NA, auto_unbox = TRUE, pretty = TRUE)
