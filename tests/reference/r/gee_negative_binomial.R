# GEE of the negative binomial with a given theta: geepack refuses the family ("variance invalid"), so that independent rows
# by MASS::negative.binomial(3) with the cluster sandwich (CR0) written out are the reference.
# Run from the project's root; prints JSON.
suppressWarnings(suppressMessages({library(MASS); library(jsonlite)}))
epil <- read.csv("bayes_glmm/datasets/epil.csv"); epil$trt <- factor(epil$trt, levels=c("placebo","progabide"))
m <- glm(y~log_base4+trt+log_age+v4, data=epil, family=negative.binomial(3), epsilon=1e-14, maxit=100)
X <- model.matrix(m); mu <- fitted(m); s <- X*(epil$y - mu)/(1 + mu/3); B <- solve(crossprod(X, X*(mu/(1 + mu/3))))
V <- B %*% crossprod(rowsum(s, epil$subject)) %*% B
cat(toJSON(list(source="R 4.2.2, stats::glm with MASS 7.3-58 negative.binomial(3) (script r/gee_negative_binomial.R)", beta=as.list(coef(m)), robust_se=as.list(setNames(sqrt(diag(V)), names(coef(m)))), pearson=sum(residuals(m, "pearson")^2)), digits=I(12), auto_unbox=TRUE, pretty=TRUE))
