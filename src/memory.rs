use crate::{Result, models::ModelFiles, recipe::Recipe};
#[derive(Debug, Clone, serde::Serialize)]
pub struct MemoryPlan;
impl MemoryPlan { pub fn of(_: &ModelFiles, _: &Recipe) -> Result<Self> { Ok(Self) } pub fn check(&self) -> Result<()> { Ok(()) } }
impl std::fmt::Display for MemoryPlan { fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { Ok(()) } }
pub fn composition(_: &Recipe) -> Vec<String> { Vec::new() }
