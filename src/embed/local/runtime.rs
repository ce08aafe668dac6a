//! Finds and loads ONNX Runtime's shared library.

use std::path::{Path, PathBuf};

use ort::{environment::Environment, logging::LogLevel};
use parking_lot::Mutex;

use crate::embed::local::EmbedOpenError;

/// The library's path inside an installation, under the name that scripts/fetch-assets gives it.
#[cfg(target_os = "macos")]
const LIBRARY: &str = "assets/onnxruntime/libonnxruntime.dylib";
#[cfg(not(target_os = "macos"))]
const LIBRARY: &str = "assets/onnxruntime/libonnxruntime.so";

/// ONNX Runtime allows one environment in the life of a process, and unloading the library under a
/// running session would crash: once there, it stays.
static ENVIRONMENT: Mutex<Option<Environment>> = Mutex::new(None);

/// The process's environment; the first call loads the library from `path`, later ones keep it.
pub(super) fn environment(path: &Path) -> Result<Environment, EmbedOpenError> {
    let mut environment = ENVIRONMENT.lock();
    if let Some(environment) = &*environment {
        return Ok(environment.clone());
    }
    let failed = |reason: String| EmbedOpenError::BadRuntime { path: path.to_owned(), reason };
    let loaded = ort::init_from(path)
        .map_err(|error| failed(error.to_string()))?
        .with_name("reprise")
        .with_telemetry(false)
        .build()
        .map_err(|error| failed(error.to_string()))?;
    // The crate asks for everything, down to a line for each operator, and filters afterwards.
    loaded.set_log_level(LogLevel::Warning);
    Ok(environment.insert(loaded).clone())
}

/// Where the library is: what was asked for (the option, else `ORT_DYLIB_PATH`), which must be there;
/// otherwise the first that exists of `assets/` in the working directory, next to the executable and
/// beside the executable's folder, and the executable's own folder.
pub(super) fn find(
    asked: Option<PathBuf>,
    variable: Option<PathBuf>,
    executable: Option<&Path>,
) -> Result<PathBuf, EmbedOpenError> {
    let variable = variable.filter(|path| !path.as_os_str().is_empty());
    if let Some(path) = asked.or(variable) {
        // A bare name that is no file here is for the system's loader to look up.
        let bare = path.components().count() == 1;
        return match path.is_file() {
            true => absolute(&path),
            false if bare => Ok(path),
            false => Err(EmbedOpenError::NoRuntime { tried: vec![path] }),
        };
    }
    let library = Path::new(LIBRARY);
    let mut tried = vec![library.to_owned()];
    if let Some(folder) = executable.and_then(Path::parent) {
        tried.push(folder.join(library));
        tried.extend(folder.parent().map(|above| above.join(library)));
        tried.extend(library.file_name().map(|name| folder.join(name)));
    }
    match tried.iter().find(|path| path.is_file()) {
        Some(found) => absolute(found),
        None => Err(EmbedOpenError::NoRuntime { tried }),
    }
}

/// The `ort` crate takes a relative path as one beside the executable first.
fn absolute(path: &Path) -> Result<PathBuf, EmbedOpenError> {
    std::path::absolute(path)
        .map_err(|source| EmbedOpenError::File { path: path.to_owned(), source })
}
