# One posterior by rstanarm or brms in a process of its own: Rscript stan.R specification.json
# Writes what benchmarks/sampler.py writes: a line when the draws are there, then a summary;
# and once more for a second fit in the same process, if that is asked for and the first was not long.
spec <- jsonlite::fromJSON(commandArgs(TRUE)[[1]])
suppressPackageStartupMessages(library(spec$package, character.only = TRUE))
# Debian's package BH has no headers of its own
if (!nzchar(system.file("include", package = "BH"))) {
  rstan::rstan_options(boost_lib = "/usr/include", boost_lib2 = "/usr/include")
}

say <- function(...) cat("@@", as.character(jsonlite::toJSON(list(...), auto_unbox = TRUE, digits = NA)), "\n", sep = "")

d <- read.csv(spec$data, colClasses = if (length(spec$levels)) sapply(spec$levels, function(l) "character") else NA)
for (column in names(spec$levels)) d[[column]] <- factor(d[[column]], levels = spec$levels[[column]])
columns <- colnames(model.matrix(as.formula(spec$fixed), d))

chains <- function(seed) list(
  chains = spec$chains, iter = spec$draws + spec$tune, warmup = spec$tune, cores = spec$cores,
  seed = seed, refresh = 0
)

rstanarm_fit <- function(seed) {
  do.call(stan_glmer, c(list(
    as.formula(spec$formula), d, family = spec$family,
    prior = normal(spec$mean[-1], spec$sd[-1], autoscale = FALSE),
    prior_intercept = normal(spec$mean[[1]], spec$sd[[1]], autoscale = FALSE),
    prior_covariance = decov(shape = 1, scale = spec$sd_mean)
  ), chains(seed)))
}

# brms compiles each model: the compiled one is kept in a file for later processes
brms_fit <- function(seed) {
  if (file.exists(spec$compiled)) {
    return(do.call(update, c(list(readRDS(spec$compiled), recompile = FALSE), chains(seed))))
  }
  named <- colnames(make_standata(as.formula(spec$formula), d, family = spec$family)$X)
  priors <- c(
    set_prior(sprintf("exponential(%.17g)", 1 / spec$sd_mean), class = "sd"),
    do.call(c, lapply(seq_along(named), function(i) {
      set_prior(sprintf("normal(%.17g, %.17g)", spec$mean[[i]], spec$sd[[i]]), class = "b", coef = named[[i]])
    }))
  )
  fit <- do.call(brm, c(list(as.formula(spec$formula), d, family = spec$family, prior = priors), chains(seed)))
  saveRDS(fit, spec$compiled)
  fit
}

# draws of the coefficients, in the order of the design's columns, and of the SDs
kept <- function(fit) {
  draws <- as.array(fit)
  names <- dimnames(draws)[[3]]
  sds <- switch(spec$package,
    rstanarm = sprintf("Sigma[%s:(Intercept),(Intercept)]", spec$groups),
    brms = sprintf("sd_%s__Intercept", spec$groups)
  )
  coefficients <- switch(spec$package, rstanarm = columns, brms = grep("^b_", names, value = TRUE))
  found <- lapply(c(coefficients, sds), function(name) draws[, , name])
  names(found) <- c(columns, paste("sd", spec$groups))
  if (spec$package == "rstanarm") {
    for (name in paste("sd", spec$groups)) found[[name]] <- sqrt(found[[name]])
  }
  found
}

for (seed in spec$seed + seq_len(1 + spec$again) - 1) {
  start <- as.numeric(Sys.time())
  fit <- switch(spec$package, rstanarm = rstanarm_fit(seed), brms = brms_fit(seed))
  seconds <- as.numeric(Sys.time()) - start
  say(done = TRUE)
  found <- kept(fit)
  say(
    fit_seconds = seconds,
    mean = lapply(found, mean), sd = lapply(found, function(x) sd(as.vector(x))),
    ess = min(sapply(found, rstan::ess_bulk)), rhat = max(sapply(found, rstan::Rhat)),
    divergences = rstan::get_num_divergent(switch(spec$package, rstanarm = fit$stanfit, brms = fit$fit)),
    mib = NA
  )
  if (seconds > spec$long) break
}
