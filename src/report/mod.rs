//! Pages drawn from artifacts alone; deletable, always remade.

/// stub
pub fn build(run_folder: &std::path::Path) -> crate::error::Result<std::path::PathBuf> {
    Ok(run_folder.join("report.html"))
}
