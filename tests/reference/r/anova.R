# Analysis of deviance by lme4's anova() and stats::anova(): tests/reference/anova.json.
# Run in this folder; the CSVs are those of bayes_glmm/datasets.
suppressMessages({library(lme4); library(jsonlite)})
rd <- function(n) read.csv(file.path("../../../bayes_glmm/datasets", paste0(n, ".csv")))
rows <- function(id, a, what) list(id=id, what=what, npar=a$npar, loglik=a$logLik, chisq=a$Chisq, df=a$Df, p=a[["Pr(>Chisq)"]])
ctl <- glmerControl(optimizer="bobyqa", optCtrl=list(maxfun=1e6), tolPwrss=1e-12)
s <- rd("sleepstudy"); s$subject <- factor(s$subject)
m1 <- lmer(reaction ~ days + (1|subject), s, REML=FALSE)
m2 <- lmer(reaction ~ days + (days||subject), s, REML=FALSE)
m3 <- lmer(reaction ~ days + (days|subject), s, REML=FALSE)
b <- rd("cbpp"); b$period <- factor(b$period); b$herd <- factor(b$herd)
g0 <- glmer(cbind(incidence, size-incidence) ~ 1 + (1|herd), b, binomial, control=ctl)
g1 <- glmer(cbind(incidence, size-incidence) ~ period + (1|herd), b, binomial, control=ctl)
k <- rd("grouseticks"); for (v in c("index","brood","location","year")) k[[v]] <- factor(k[[v]])
t0 <- glmer(ticks ~ year + (1|index) + (1|brood) + (1|location), k, poisson, control=ctl)
t1 <- glmer(ticks ~ year + height_scaled + (1|index) + (1|brood) + (1|location), k, poisson, control=ctl)
h0 <- glm(cbind(incidence, size-incidence) ~ 1, binomial, b); h1 <- glm(cbind(incidence, size-incidence) ~ period, binomial, b)
gl <- list(npar=c(1,4), logLik=c(logLik(h0), logLik(h1)), Chisq=c(NA, h0$deviance-h1$deviance), Df=c(NA,3))
gl[["Pr(>Chisq)"]] <- c(NA, pchisq(gl$Chisq[2], 3, lower.tail=FALSE))
out <- list(source="lme4::anova.merMod on ML fits (lmer REML=FALSE; glmer Laplace) and a GLM's analysis of deviance",
  r_version=R.version.string, lme4=as.character(packageVersion("lme4")),
  tests=list(rows("sleepstudy", anova(m1,m2,m3), "p-values by chi-square: the boundary is ignored"),
    rows("cbpp", anova(g0,g1), "fixed effects"), rows("grouseticks", anova(t0,t1), "fixed effects"), rows("cbpp_glm", gl, "fixed effects")))
write_json(out, "../anova.json", auto_unbox=TRUE, digits=10, pretty=TRUE, na="null")
