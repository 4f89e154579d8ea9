# Group effects with the standard errors of TMB's sdreport, which hold the estimation error of the
# parameters (H^-1 + c'Vc). Run from this folder.
suppressMessages({library(glmmTMB); library(jsonlite)})
options(contrasts=c("contr.treatment","contr.poly"))
DATA <- "../../../bayes_glmm/datasets"
read <- function(name, levels) { d <- read.csv(file.path(DATA, paste0(name, ".csv")))
  for (k in names(levels)) d[[k]] <- factor(as.character(d[[k]]), levels=levels[[k]]); d }
entry <- function(id, m) { r <- ranef(m, condVar=TRUE)$cond
  groups <- lapply(r, function(g) { v <- attr(g, "condVar"); q <- ncol(g); n <- min(6, nrow(g))
    sd <- t(sapply(seq_len(nrow(g)), function(i) sqrt(diag(matrix(v[,,i], q)))))
    if (q == 1) sd <- t(sd)
    list(level=rownames(g)[1:n], term=names(g), mode=unname(as.matrix(g)[1:n,,drop=FALSE]), sd=sd[1:n,,drop=FALSE]) })
  list(id=id, formula=paste(deparse(formula(m), width.cutoff=300), collapse=" "), family=family(m)$family,
    method="laplace", engine="glmmTMB::ranef(condVar=TRUE)", groups=groups) }
cbpp <- read("cbpp", list(period=c("1","2","3","4")))
epil <- read("epil", list(trt=c("placebo","progabide")))
ticks <- read("grouseticks", list(year=c("95","96","97")))
fits <- list(
  entry("cbpp_tmb", glmmTMB(cbind(incidence, size-incidence) ~ period + (1|herd), cbpp, family=binomial)),
  entry("epil_bc4_tmb", glmmTMB(y ~ log_base4*trt + log_age + visit + (1+visit|subject), epil, family=poisson)),
  entry("grouseticks_tmb", glmmTMB(ticks ~ year + height_scaled + (1|brood) + (1|index) + (1|location), ticks, family=poisson)))
write(toJSON(list(dataset="several", source="bayes_glmm/datasets", r_version=R.version.string,
  packages=list(glmmTMB=as.character(packageVersion("glmmTMB")), TMB=as.character(packageVersion("TMB"))),
  models=fits), auto_unbox=TRUE, digits=10, pretty=TRUE), "../prediction.json")
