# One posterior by rstanarm in a process of its own: Rscript rstanarm.R specification.json
# Writes what benchmarks/sampler.py writes: a line when the draws are there, then a summary.
spec <- jsonlite::fromJSON(commandArgs(TRUE)[[1]])
suppressPackageStartupMessages(library(rstanarm))

say <- function(...) cat("@@", as.character(jsonlite::toJSON(list(...), auto_unbox = TRUE, digits = NA)), "\n", sep = "")

d <- read.csv(spec$data, colClasses = if (length(spec$levels)) sapply(spec$levels, function(l) "character") else NA)
for (column in names(spec$levels)) d[[column]] <- factor(d[[column]], levels = spec$levels[[column]])

start <- as.numeric(Sys.time())
fit <- stan_glmer(
  as.formula(spec$formula), d, family = spec$family,
  prior = normal(spec$prior$mean, spec$prior$sd, autoscale = FALSE),
  prior_intercept = normal(spec$intercept$mean, spec$intercept$sd, autoscale = FALSE),
  prior_covariance = decov(shape = 1, scale = spec$sd_mean),
  chains = spec$chains, iter = spec$draws + spec$tune, warmup = spec$tune, cores = spec$cores,
  seed = spec$seed, refresh = 0
)
seconds <- as.numeric(Sys.time()) - start
say(done = TRUE)

draws <- as.array(fit)
names <- dimnames(draws)[[3]]
kept <- names[!grepl("^b\\[", names)]
found <- lapply(setNames(kept, kept), function(name) {
  x <- draws[, , name]
  if (startsWith(name, "Sigma[")) sqrt(x) else x
})
group <- sub("^Sigma\\[(.*):\\(Intercept\\),.*$", "\\1", kept)
names(found) <- ifelse(startsWith(kept, "Sigma["), paste("sd", group), kept)
say(
  fit_seconds = seconds,
  mean = lapply(found, mean), sd = lapply(found, function(x) sd(as.vector(x))),
  ess = min(sapply(found, rstan::ess_bulk)), rhat = max(sapply(found, rstan::Rhat)),
  divergences = rstan::get_num_divergent(fit$stanfit), mib = NA
)
