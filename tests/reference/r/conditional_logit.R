# Conditional logistic regression by survival::clogit, exact likelihood. Run from this folder.
source("common.R")
suppressPackageStartupMessages(library(survival))
entry <- function(id, formula, fit) list(id=id, formula=formula, method="conditional_logit",
  engine="survival::clogit method=exact", fixed=fxl(coef(fit), sqrt(diag(vcov(fit)))), loglik=fit$loglik[2])
ohio <- rd("ohio")
toenail <- rd("toenail", list(treatment=c("itraconazole", "terbinafine")))
cbpp <- rd("cbpp", list(period=c("1", "2", "3", "4")))
# strata take the treatment's own column, so the interaction is one column
toenail$tt <- toenail$time * (toenail$treatment == "terbinafine")
trials <- cbpp[rep(seq_len(nrow(cbpp)), cbpp$size), ]
trials$y <- unlist(Map(function(y, n) rep(c(1, 0), c(y, n - y)), cbpp$incidence, cbpp$size))
models <- list(
  entry("ohio", "resp ~ age * smoke + (1 | id)",
        clogit(resp ~ age + age:smoke + strata(id), data=ohio, method="exact")),
  entry("toenail", "y01 ~ treatment * time + (1 | patient_id)",
        clogit(y01 ~ time + tt + strata(patient_id), data=toenail, method="exact")),
  entry("cbpp", "cbind(incidence, size - incidence) ~ period + (1 | herd)",
        clogit(y ~ period + strata(herd), data=trials, method="exact")))
out <- list(source="the CSVs of the data sets", r_version=R.version.string,
            packages=list(survival=as.character(packageVersion("survival"))), models=models)
writeLines(toJSON(out, digits=12, auto_unbox=TRUE, pretty=TRUE), file.path(ROOT, "reference", "conditional_logit.json"))
