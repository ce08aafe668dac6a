//! `--fit-prior`: what a namespace should believe before it has heard anything.

use std::path::Path;

use super::{Bars, Eval, Fault, name_of, read, write};
use crate::eval::{EvalError, Provenance, Source, Vectors, fit_prior, prior_file};

/// Listens to every file and writes the mixture, with what it was fitted on.
pub(super) fn run(
    eval: &Eval,
    model: &str,
    embed: impl Fn(&[String]) -> Result<Vectors, EvalError>,
    out: &Path,
) -> Result<(), Fault> {
    let weights = match (eval.weight.len(), eval.files.len()) {
        (0, files) => vec![1.0; files],
        (weights, files) if weights == files => eval.weight.clone(),
        (weights, files) => {
            return Err(Fault::Usage(format!(
                "{weights} --weight for {files} files: one for each, in their order"
            )));
        }
    };
    if let Some(weight) = weights.iter().find(|weight| !(weight.is_finite() && **weight > 0.0)) {
        return Err(Fault::Usage(format!("--weight {weight}: above 0")));
    }
    let (mut sources, mut origins) = (Vec::new(), Vec::new());
    for (file, weight) in eval.files.iter().zip(weights) {
        let (dataset, blake3) = read(file)?;
        let name = name_of(file);
        let mut bars = Bars::of(&name);
        let source = Source::embed(dataset, weight, &embed, |at| bars.show(at))
            .map_err(|source| Fault::Content { path: file.clone(), source })?;
        origins.push(Provenance { file: name, rows: source.dataset.rows(), blake3, weight });
        sources.push(source);
    }
    let wrong = |source| Fault::Content { path: out.to_owned(), source };
    let prior = fit_prior(&sources).map_err(wrong)?;
    write(out, prior_file(&prior, model, &origins))
}
