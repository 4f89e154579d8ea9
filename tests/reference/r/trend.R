# Predictions of smooth trends on rows that were not fitted; run from the project's root.
# lmer gives no standard errors of predictions: the errors of its predictions are (x'Vx)^0.5 with V = vcov of the REML fit.
suppressMessages({library(lme4); library(splines); library(jsonlite)})
csv <- "bayes_glmm/datasets"
milk <- read.csv(file.path(csv, "milk.csv"))
milk$diet <- factor(milk$diet, levels = c("barley", "barley+lupins", "lupins"))
ticks <- read.csv(file.path(csv, "grouseticks.csv")); ticks$year <- factor(ticks$year)
toenail <- read.csv(file.path(csv, "toenail.csv"))
out <- list()

mixed <- function(id, term) {
  right <- paste("~ diet *", term)
  m <- lmer(as.formula(paste("protein", right, "+ (1 | cow)")), milk, REML = TRUE,
            control = lmerControl(optCtrl = list(xtol_rel = 1e-12, ftol_abs = 1e-14)))
  new <- expand.grid(time = c(1, 2.5, 7, 13.3, 19), diet = levels(milk$diet))
  new$diet <- factor(new$diet, levels = levels(milk$diet))
  fixed <- lm(as.formula(paste("protein", right)), milk)  # for its basis
  X <- model.matrix(delete.response(terms(fixed)), new, xlev = fixed$xlevels)
  V <- as.matrix(vcov(m))
  stopifnot(all(colnames(X) == names(fixef(m))))
  out[[id]] <<- list(term = term, time = new$time, diet = as.character(new$diet),
                     loglik = as.numeric(logLik(m)), fit = as.vector(X %*% fixef(m)),
                     se = sqrt(rowSums((X %*% V) * X)))
}
mixed("bs", "bs(time, df = 4)")
mixed("ns", "ns(time, knots = c(4, 8, 13))")
mixed("poly", "poly(time, 2)")

plain <- function(id, formula, data, family, new) {
  m <- glm(formula, family, data, control = glm.control(epsilon = 1e-14))
  p <- predict(m, new, type = "link", se.fit = TRUE)
  z <- qnorm(0.975)
  back <- family()$linkinv
  out[[id]] <<- c(as.list(new), list(fit = unname(back(p$fit)), low = unname(back(p$fit - z * p$se.fit)),
                                     high = unname(back(p$fit + z * p$se.fit))))
}
plain("poisson", ticks ~ year + bs(height, df = 5), ticks, poisson,
      data.frame(year = c("95", "96", "97"), height = c(411, 470.5, 533)))
plain("bernoulli", y01 ~ treatment * poly(time, 2), toenail, binomial,
      data.frame(treatment = c("itraconazole", "terbinafine"), time = c(0.3, 11)))
write_json(list(source = paste("R", getRversion(), "lme4", packageVersion("lme4")), entries = out),
           "tests/reference/trend.json", digits = NA, auto_unbox = TRUE, pretty = TRUE)
