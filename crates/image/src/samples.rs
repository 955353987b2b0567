//! Archives made by tests.

use std::io::Write;

use tar::{Builder, EntryType, Header};

use crate::digest::Digest;
use crate::manifest::architecture;

/// A tar of files; a name ending in `/` is a directory.
pub(crate) fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (path, data) in files {
        let mut header = Header::new_gnu();
        header.set_entry_type(if path.ends_with('/') {
            EntryType::Directory
        } else {
            EntryType::Regular
        });
        header.set_mode(0o755);
        header.set_size(data.len() as u64);
        builder.append_data(&mut header, path, *data).unwrap();
    }
    builder.into_inner().unwrap()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An image: layers as tars, and the configuration that belongs to them.
pub(crate) struct Sample {
    pub(crate) layers: Vec<Vec<u8>>,
    pub(crate) config: Vec<u8>,
}

impl Sample {
    pub(crate) fn new(layers: Vec<Vec<u8>>) -> Self {
        let diffs: Vec<String> =
            layers.iter().map(|layer| format!("\"{}\"", Digest::of(layer))).collect();
        let config = format!(
            r#"{{"architecture":"{}","os":"linux","created":"2026-01-02T03:04:05Z","config":{{"Cmd":["/bin/x"]}},"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
            architecture(),
            diffs.join(",")
        );
        Self { layers, config: config.into_bytes() }
    }

    /// One layer with one file.
    pub(crate) fn small(content: &str) -> Self {
        Self::new(vec![tar_of(&[("f", content.as_bytes())])])
    }

    /// As `docker save` writes it, `manifest.json` last; a layer that occurs twice is a link the second time.
    pub(crate) fn docker_archive(&self, tag: &str) -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        let mut put = |path: &str, data: &[u8], link: Option<String>| {
            let mut header = Header::new_gnu();
            header.set_mode(0o644);
            if let Some(target) = link {
                header.set_entry_type(EntryType::Symlink);
                header.set_size(0);
                return builder.append_link(&mut header, path, target).unwrap();
            }
            header.set_size(data.len() as u64);
            builder.append_data(&mut header, path, data).unwrap();
        };
        let mut names = Vec::new();
        for (index, layer) in self.layers.iter().enumerate() {
            let name = format!("{index}/layer.tar");
            match self.layers[..index].iter().position(|earlier| earlier == layer) {
                Some(earlier) => put(&name, layer, Some(format!("../{earlier}/layer.tar"))),
                None => put(&name, layer, None),
            }
            names.push(format!("\"{name}\""));
        }
        put("config.json", &self.config, None);
        let manifest = format!(
            r#"[{{"Config":"config.json","RepoTags":["{tag}"],"Layers":[{}]}}]"#,
            names.join(",")
        );
        put("manifest.json", manifest.as_bytes(), None);
        builder.into_inner().unwrap()
    }

    /// The manifest with gzipped layers, and all blobs.
    pub(crate) fn registry_form(&self) -> (Vec<u8>, Vec<Vec<u8>>) {
        let mut blobs: Vec<Vec<u8>> = self.layers.iter().map(|layer| gzip(layer)).collect();
        let describe = |kind: &str, blob: &[u8]| {
            format!(
                r#"{{"mediaType":"{kind}","digest":"{}","size":{}}}"#,
                Digest::of(blob),
                blob.len()
            )
        };
        let layers: Vec<String> = blobs
            .iter()
            .map(|blob| describe("application/vnd.oci.image.layer.v1.tar+gzip", blob))
            .collect();
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{},"layers":[{}]}}"#,
            describe("application/vnd.oci.image.config.v1+json", &self.config),
            layers.join(",")
        );
        blobs.push(self.config.clone());
        (manifest.into_bytes(), blobs)
    }

    /// An OCI layout; the index names one manifest for this platform and one for another.
    pub(crate) fn oci_archive(&self, annotations: &str) -> Vec<u8> {
        let (manifest, mut blobs) = self.registry_form();
        let inner = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"digest":"{}","size":9,"platform":{{"os":"linux","architecture":"s390x"}}}},
            {{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{}","size":{},"platform":{{"os":"linux","architecture":"{}"}}}}]}}"#,
            Digest::of(b"not there"),
            Digest::of(&manifest),
            manifest.len(),
            architecture()
        );
        let index = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"{}","size":{}{annotations}}}]}}"#,
            Digest::of(inner.as_bytes()),
            inner.len()
        );
        blobs.extend([manifest, inner.into_bytes()]);
        let named: Vec<(String, Vec<u8>)> = blobs
            .into_iter()
            .map(|blob| (format!("blobs/sha256/{}", Digest::of(&blob).hex()), blob))
            .chain([("index.json".to_owned(), index.into_bytes())])
            .collect();
        let files: Vec<(&str, &[u8])> =
            named.iter().map(|(name, data)| (name.as_str(), data.as_slice())).collect();
        tar_of(&files)
    }
}
