//! `manifest.json` of a docker-archive: configurations and layers by file name.

use serde::Deserialize;

use super::{Archive, Found, manifest_of, nameless};
use crate::error::Result;
use crate::store::Inner;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

pub(super) fn images(inner: &Inner, archive: &Archive) -> Result<Vec<Found>> {
    let items: Vec<Item> = archive.json(inner, "manifest.json")?;
    items.into_iter().map(|item| image(inner, archive, item)).collect()
}

fn image(inner: &Inner, archive: &Archive, item: Item) -> Result<Found> {
    let config = archive.need(&item.config)?;
    let names = item.layers.unwrap_or_default();
    let layers = names.iter().map(|name| archive.need(name)).collect::<Result<Vec<_>>>()?;
    let tags = item.repo_tags.unwrap_or_default();
    let mut references = tags.iter().map(|tag| Ok(tag.parse()?)).collect::<Result<Vec<_>>>()?;
    if references.is_empty() {
        references.push(nameless(&config.digest)?);
    }
    Ok(Found { references, manifest: manifest_of(inner, &config, &layers)? })
}
