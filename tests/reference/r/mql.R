# Marginal quasi-likelihood by iterated nlme::lme: the working response is linearised at the fixed part.
# Run from the project's root; prints JSON.
suppressWarnings(suppressMessages({library(nlme); library(jsonlite)}))
D <- "bayes_glmm/datasets/"
bacteria <- read.csv(paste0(D, "bacteria.csv")); bacteria$trt <- factor(bacteria$trt, levels=c("placebo","drug","drug+")); bacteria$m <- 1
cbpp <- read.csv(paste0(D, "cbpp.csv")); cbpp$period <- factor(cbpp$period); cbpp$m <- cbpp$size; cbpp$p <- cbpp$incidence/cbpp$size
epil <- read.csv(paste0(D, "epil.csv")); epil$trt <- factor(epil$trt, levels=c("placebo","progabide")); epil$m <- 1
mql <- function(fixed, group, d, family, method, phi) {
  d$zz_ <- d[[as.character(fixed[[2]])]]; d$g_ <- factor(d[[group]])
  X <- model.matrix(fixed[-2], d); y <- d$zz_; m <- d$m
  eta <- family$linkfun(if (family$family == "binomial") (y*m + .5)/(m + 1) else y + .5)
  ctl <- lmeControl(sigma=phi, msTol=1e-13, tolerance=1e-12, returnObject=TRUE, maxIter=500, msMaxIter=500, opt="optim", reltol=1e-14)
  for (it in 1:100) {
    mu <- family$linkinv(eta); slope <- family$mu.eta(eta)
    d$zz_ <- eta + (y - mu)/slope; d$invwt <- family$variance(mu)/(m*slope^2)
    f <- do.call(lme, list(fixed=update(fixed, zz_ ~ .), random=~1|g_, data=d, weights=varFixed(~invwt), method=method, control=ctl))
    old <- eta; eta <- as.vector(X %*% fixef(f)); if (sum((eta-old)^2) < 1e-20*sum(eta^2)) break
  }
  list(beta=as.list(fixef(f)), se=unname(sqrt(diag(vcov(f)))), sd=sqrt(as.matrix(f$modelStruct$reStruct[[1]])[1,1])*f$sigma, sigma=f$sigma, iterations=it)
}
cases <- list(bacteria=list(y01~trt+week_gt2, "id", bacteria, binomial()), cbpp=list(p~period, "herd", cbpp, binomial()), epil=list(y~trt+visit, "subject", epil, poisson()))
out <- list()
# sigma=1 with REML is wrong in lme (it profiles as if sigma were free); with ML it stays at sd = 0 for bacteria
for (n in names(cases)) for (method in c("ML","REML")) for (phi in c("phi1","phifree")) {
  if (phi == "phi1" && (method == "REML" || n == "bacteria")) next
  a <- cases[[n]]
  f <- mql(a[[1]], a[[2]], a[[3]], a[[4]], method, if (phi == "phi1") 1 else NULL)
  out[[n]][[paste(tolower(method), phi, sep="_")]] <- f
}
cat(toJSON(list(source="R 4.2.2, nlme::lme 3.1-162 iterated with weights varFixed (script r/mql.R)", models=out), digits=I(12), auto_unbox=TRUE, pretty=TRUE))
