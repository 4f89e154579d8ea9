source("common.R"); suppressWarnings(library(glmmTMB))
# Families with a dispersion, and links beside the canonical ones, all by Laplace (glmmTMB).
epil <- rd("epil",list(trt=c("placebo","progabide")),c("subject","obs"))
sleep <- rd("sleepstudy",list(),"subject")
cbpp <- rd("cbpp",list(period=as.character(1:4)),"herd")
ticks <- rd("grouseticks",list(year=c("95","96","97")),c("brood","location"))
M<-list()
CTL<-glmmTMBControl(optCtrl=list(rel.tol=1e-13,x.tol=1e-12,iter.max=1e4,eval.max=1e4))
tmb<-function(id,data,form,family,...) { m<-glmmTMB(form,get(data),family=family,control=CTL,...)
  e<-e_tmb(id,m); e$data<-data; e$dispersion<-sigma(m); M<<-c(M,list(e)); cat(id,e$loglik,e$dispersion,e$pd_hess,"\n") }
fe<-y~log_base4*trt+log_age+v4
tmb("nb2_glm","epil",fe,nbinom2); tmb("nb1_glm","epil",fe,nbinom1)
tmb("nb2_ri","epil",update(fe,.~.+(1|subject)),nbinom2); tmb("nb1_ri","epil",update(fe,.~.+(1|subject)),nbinom1)
tmb("nb2_crossed","ticks",ticks~year+height_scaled+(1|brood)+(1|location),nbinom2)
tmb("nb1_crossed","ticks",ticks~year+height_scaled+(1|brood)+(1|location),nbinom1)
# the square root wants means well above zero, where a predictor below zero does not matter
sleep$count<-round(sleep$reaction)
tmb("poisson_sqrt","sleep",count~days+(1|subject),poisson(link="sqrt"),start=list(beta=c(16,0.3)))
tmb("nb2_sqrt","sleep",count~days+(1|subject),nbinom2(link="sqrt"),start=list(beta=c(16,0.3)))
fs<-reaction~days
tmb("gamma_log_glm","sleep",fs,Gamma(link="log"))
tmb("gamma_log","sleep",update(fs,.~.+(1|subject)),Gamma(link="log"))
tmb("gamma_log_slope","sleep",update(fs,.~.+(days|subject)),Gamma(link="log"))
tmb("gamma_inverse","sleep",I(reaction/100)~days+(1|subject),Gamma(link="inverse"))
tmb("gaussian_inverse","sleep",I(reaction/100)~days+(1|subject),gaussian(link="inverse"),start=list(beta=c(0.4,-0.01)))
fc<-cbind(incidence,size-incidence)~period
tmb("betabinomial_glm","cbpp",fc,betabinomial)
# with a beta variable for every row no variance is left between herds: ticks, at most 10 a chick, have some
ticks$hits<-pmin(ticks$ticks,10); ticks$rest<-10-ticks$hits; fh<-cbind(hits,rest)~year+height_scaled+(1|brood)
for (l in c("logit","probit","cloglog")) tmb(paste0("betabinomial_",l),"ticks",fh,betabinomial(link=l))
# the log-log link for successes is the complementary log-log for failures with the sign of eta changed
tmb("loglog_mirrored","cbpp",cbind(size-incidence,incidence)~period+(1|herd),binomial(link="cloglog"))
save_ref("families","lme4::cbpp, lme4::sleepstudy, lme4::grouseticks (GPL >= 2), MASS::epil (GPL-2 | GPL-3); see the data sets' own files",NA,M,paste(T_CODE,"; `dispersion` is glmmTMB's sigma(): theta for nbinom2, phi for nbinom1 and betabinomial, for Gamma see README"))
