# One R process per case: reads a verb and an R expression per line, answers in lines that
# begin with "@@" and end with "@@end".
#   have <package>   is it installed, and which version
#   load <expr>      evaluates
#   time <expr>      times the expression and says what it answered
options(contrasts = c("contr.treatment", "contr.poly"), digits = 17, warn = 0)

say <- function(...) cat("@@", paste(..., sep = "\t"), "\n", sep = "")

say_named <- function(what, values) {
  for (name in names(values)) say(what, name, format(values[[name]], digits = 17))
}

# what lme4 leaves out of the log-likelihood with more than one node: the saturated model's
saturated <- function(m) {
  y <- lme4::getME(m, "y")
  n <- weights(m, "prior")
  if (family(m)$family == "poisson") return(sum(dpois(y, y, log = TRUE)))
  sum(ifelse(n == 1, 0, dbinom(round(y * n), n, y, log = TRUE)))
}

intercept_sds <- function(components) sapply(components, function(g) attr(g, "stddev")[[1]])

answer <- function(m) UseMethod("answer")

answer.glm <- function(m) {
  list(beta = coef(m), se = sqrt(diag(vcov(m))), loglik = as.numeric(logLik(m)))
}

answer.merMod <- function(m) {
  constant <- if (isTRUE(m@devcomp$dims["nAGQ"] > 1)) saturated(m) else 0
  list(beta = lme4::fixef(m), se = sqrt(diag(as.matrix(vcov(m)))),
       sd = intercept_sds(lme4::VarCorr(m)), loglik = as.numeric(logLik(m)) + constant)
}

answer.glmmTMB <- function(m) {
  list(beta = glmmTMB::fixef(m)$cond, se = sqrt(diag(vcov(m)$cond)),
       sd = intercept_sds(glmmTMB::VarCorr(m)$cond), loglik = as.numeric(logLik(m)))
}

answer.glmmPQL <- function(m) {
  # summary() multiplies by sqrt(N / (N - p)); varFix does not
  sds <- lapply(m$modelStruct$reStruct, function(s) sqrt(as.matrix(s)[1, 1]) * m$sigma)
  list(beta = nlme::fixef(m), se = sqrt(diag(m$varFix)), sd = sds)
}

answer.lme <- function(m) {
  sds <- lapply(m$modelStruct$reStruct, function(s) sqrt(as.matrix(s)[1, 1]) * m$sigma)
  list(beta = nlme::fixef(m), se = sqrt(diag(m$varFix)), sd = sds, loglik = as.numeric(logLik(m)))
}

answer.gls <- function(m) {
  list(beta = coef(m), se = sqrt(diag(vcov(m))), loglik = as.numeric(logLik(m)))
}

answer.geeglm <- function(m) {
  list(beta = coef(m), se = setNames(sqrt(diag(m$geese$vbeta)), names(coef(m))))
}

answer.gee <- function(m) list(beta = coef(m), se = sqrt(diag(m$robust.variance)))

time_once <- function(expression) {
  gc()
  notes <- character()
  note <- function(condition) notes <<- c(notes, conditionMessage(condition))
  silence <- file(nullfile(), "w")
  sink(silence)
  on.exit({ sink(); close(silence) })
  used <- proc.time()
  start <- as.numeric(Sys.time())
  m <- withCallingHandlers(
    suppressMessages(eval(expression, globalenv())),
    warning = function(w) { note(w); invokeRestart("muffleWarning") }
  )
  seconds <- as.numeric(Sys.time()) - start
  used <- proc.time() - used
  list(m = m, seconds = seconds, processor = sum(used[1:2]), notes = unique(notes))
}

report <- function(timed) {
  say("seconds", "", timed$seconds)
  say("processor", "", timed$processor)
  found <- answer(timed$m)
  for (what in c("beta", "se", "sd")) say_named(what, found[[what]])
  if (!is.null(found$loglik)) say("loglik", "", format(found$loglik, digits = 17))
  for (text in timed$notes) say("note", "", gsub("[\n\t]+", " ", text))
}

obey <- function(verb, text) switch(verb,
  have = if (requireNamespace(text, quietly = TRUE))
    say("version", text, as.character(packageVersion(text))),
  load = eval(parse(text = text), globalenv()),
  time = report(time_once(parse(text = text)))
)

say("version", "R", paste(R.version$major, R.version$minor, sep = "."))
say("pid", "", Sys.getpid())
say("end")
lines <- file("stdin", "r")
while (length(line <- readLines(lines, n = 1)) == 1) {
  verb <- sub(" .*", "", line)
  tryCatch(obey(verb, sub("^[^ ]+ ", "", line)),
           error = function(e) say("error", "", gsub("[\n\t]+", " ", conditionMessage(e))))
  say("end")
}
