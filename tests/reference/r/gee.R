# Reference numbers for GEE beyond the other scripts: fixed correlations, m-dependence, QIC, Wald tests.
# Run from the project's root; prints JSON.
suppressWarnings(suppressMessages({library(geepack); library(gee); library(jsonlite)}))
D <- "bayes_glmm/datasets/"
ohio <- read.csv(paste0(D, "ohio.csv")); epil <- read.csv(paste0(D, "epil.csv")); dietox <- read.csv(paste0(D, "dietox.csv"))
bacteria <- read.csv(paste0(D, "bacteria.csv")); bacteria$trt <- factor(bacteria$trt, levels=c("placebo","drug","drug+"))
epil$trt <- factor(epil$trt, levels=c("placebo","progabide"))
one <- function(m) list(beta=as.list(coef(m)), se=unname(sqrt(diag(m$robust.variance))), naive=unname(sqrt(diag(m$naive.variance))), scale=m$scale, correlation=m$working.correlation)
quiet <- function(e) { sink("/dev/null"); on.exit(sink()); suppressMessages(e) }
R4 <- matrix(c(1,.4,.3,.2, .4,1,.4,.3, .3,.4,1,.4, .2,.3,.4,1), 4)
moments <- list(
  ohio_m_dependent = one(quiet(gee(resp~age*smoke,id,ohio,family=binomial,corstr="stat_M_dep",Mv=2,tol=1e-10,maxiter=200))),
  bacteria_m_dependent = one(quiet(gee(y01~trt+week_gt2,factor(id),bacteria,family=binomial,corstr="stat_M_dep",Mv=1,tol=1e-10,maxiter=200))),
  ohio_unstructured = one(quiet(gee(resp~age*smoke,id,ohio,family=binomial,corstr="unstructured",tol=1e-10,maxiter=200))),
  ohio_fixed = one(quiet(gee(resp~age*smoke,id,ohio,family=binomial,corstr="fixed",R=R4,tol=1e-10,maxiter=200))),
  epil_fixed = one(quiet(gee(y~log_base4+trt+log_age+v4,subject,epil,family=poisson,corstr="fixed",R=R4,tol=1e-10,maxiter=200))))
ctl <- geese.control(epsilon=1e-10, maxit=200)
g <- function(f, d, id, fam, cs) { d$id_ <- d[[id]]; eval(bquote(geeglm(.(f), id=id_, data=d, family=.(fam), corstr=.(cs), control=ctl)), list(d=d, ctl=ctl)) }
assign("ctl", ctl, envir=.GlobalEnv)
sets <- list(ohio=list(resp~age*smoke, ohio, "id", binomial), epil=list(y~log_base4+trt+log_age+v4, epil, "subject", poisson), dietox=list(weight~time, dietox, "pig", gaussian))
qics <- list()
for (n in names(sets)) { s <- sets[[n]]; dd <- s[[2]]; dd$id_ <- dd[[s[[3]]]]; assign("dd", dd, envir=.GlobalEnv); assign("ff", s[[1]], envir=.GlobalEnv); assign("fam", s[[4]](), envir=.GlobalEnv)
  for (cs in c("independence","exchangeable","ar1")) { assign("cs", cs, envir=.GlobalEnv); m <- geeglm(ff, id=id_, data=dd, family=fam, corstr=cs, control=ctl); q <- QIC(m); qics[[n]][[cs]] <- as.list(c(q, phi=m$geese$gamma[[1]])) } }
m1 <- geeglm(resp~age*smoke, id=id, data=ohio, family=binomial, corstr="exchangeable", control=ctl); m0 <- geeglm(resp~age, id=id, data=ohio, family=binomial, corstr="exchangeable", control=ctl)
a <- anova(m1, m0)
epil$id_ <- epil$subject
e1 <- geeglm(y~log_base4*trt+log_age+v4, id=subject, data=epil, family=poisson, corstr="exchangeable", control=ctl); e0 <- geeglm(y~log_base4+v4, id=subject, data=epil, family=poisson, corstr="exchangeable", control=ctl)
b <- anova(e1, e0)
wald <- list(ohio=list(df=a$Df, statistic=a$X2), epil=list(df=b$Df, statistic=b$X2))
oh <- ordgee(ordered(resp)~age*smoke, id=id, data=ohio, corstr="exchangeable", control=ctl)
or <- list(beta=oh$beta, se=sqrt(diag(oh$vbeta)), alpha=oh$alpha, alpha_se=sqrt(diag(oh$valpha)))
cat(toJSON(list(moments=moments, qic=qics, wald=wald, ordgee=or), digits=I(12), auto_unbox=TRUE, pretty=TRUE))
