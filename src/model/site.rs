//! Which named activations a model has, and how wide each is.

use super::spec::{BlockSpec, HeadSpec, ModelSpec};
use crate::error::{Error, Result, did_you_mean};
use crate::id::{Site, SiteKind};

impl ModelSpec {
    /// Every site of this model, in forward order.
    pub fn sites(&self) -> Vec<Site> {
        let kinds = SiteKind::ALL.iter().map(|(kind, _)| *kind).filter(|kind| self.has_kind(*kind));
        let layers = u32::try_from(self.layers).expect("layers are checked to be few");
        let mut sites: Vec<Site> = kinds
            .flat_map(|kind| {
                let copies = if kind.per_layer() { layers } else { 1 };
                (0..copies).map(move |layer| match kind.per_layer() {
                    true => Site::of_layer(layer, kind),
                    false => Site::global(kind),
                })
            })
            .collect();
        sites.sort_unstable();
        sites
    }

    /// Whether the model has this site.
    pub fn has_site(&self, site: Site) -> bool {
        self.has_kind(site.kind) && site.layer.is_none_or(|layer| (layer as usize) < self.layers)
    }

    /// Whether a site has a row for each sequence; the others have one for each token.
    pub fn row_per_sequence(&self, site: Site) -> bool {
        match site.kind {
            SiteKind::Pooled => true,
            SiteKind::Logits => self.logits_per_sequence(),
            _ => false,
        }
    }

    /// Columns N of a site. For `attn_probs`, which has a column per key, the number of heads.
    pub fn site_width(&self, site: Site) -> usize {
        let attention = &self.attention;
        match site.kind {
            SiteKind::EmbeddingsNarrow => self.embedding.width,
            SiteKind::AttnProbs => attention.heads,
            SiteKind::HeadOut => attention.heads * attention.head_width,
            SiteKind::MlpPre | SiteKind::MlpGate | SiteKind::MlpUp | SiteKind::MlpAct => {
                self.mlp.width
            }
            SiteKind::HeadHidden => match self.head {
                HeadSpec::Lm { width, .. } => width,
                _ => self.width,
            },
            SiteKind::Logits => match self.head {
                HeadSpec::None => 0,
                HeadSpec::Lm { .. } => self.vocab,
                HeadSpec::TokenClasses { classes } | HeadSpec::SequenceClasses { classes } => {
                    classes
                }
                HeadSpec::Discriminator { .. } => 1,
            },
            _ => self.width,
        }
    }

    /// The sites that match any of `patterns`, in forward order. A pattern is a site's name in
    /// which `*` stands for any characters and `?` for one; one that matches nothing is an error.
    pub fn select_sites(&self, patterns: &[String]) -> Result<Vec<Site>> {
        let sites: Vec<(Site, String)> =
            self.sites().into_iter().map(|site| (site, site.to_string())).collect();
        for pattern in patterns {
            if !sites.iter().any(|(_, name)| matches(pattern.as_bytes(), name.as_bytes())) {
                return Err(self.unknown_site(pattern, &sites));
            }
        }
        if patterns.is_empty() {
            return Err(Error::config("sites", "none is named", "name some: layers.*.mlp_act"));
        }
        let wanted = |name: &str| {
            patterns.iter().any(|pattern| matches(pattern.as_bytes(), name.as_bytes()))
        };
        Ok(sites.iter().filter(|(_, name)| wanted(name)).map(|(site, _)| *site).collect())
    }

    fn unknown_site(&self, pattern: &str, sites: &[(Site, String)]) -> Error {
        let mut names: Vec<String> = Vec::new();
        for (site, _) in sites {
            let name = match site.kind.per_layer() {
                true => format!("layers.*.{}", site.kind.name()),
                false => site.kind.name().to_owned(),
            };
            if !names.contains(&name) {
                names.push(name);
            }
        }
        // The nearest name is looked for without the layer, which rarely is what is misspelt.
        let kind = pattern.rsplit('.').next().unwrap_or(pattern);
        let kinds = sites.iter().map(|(site, _)| site.kind.name());
        let known = sites.iter().any(|(site, _)| site.kind.name() == kind);
        let hint = if known { String::new() } else { did_you_mean(kind, kinds) };
        Error::config(
            format!("site '{pattern}'"),
            format!(
                "this model ({}, {} layers from 0) has no such site{hint}",
                self.architecture, self.layers
            ),
            format!("use: {}", names.join(", ")),
        )
    }

    fn has_kind(&self, kind: SiteKind) -> bool {
        let sandwich = self.block == BlockSpec::Sandwich;
        match kind {
            SiteKind::EmbeddingsNarrow => self.embedding.narrow_site,
            SiteKind::AttnAdded | SiteKind::MlpAdded => sandwich,
            SiteKind::ResidMid => {
                !matches!(self.block, BlockSpec::Parallel | BlockSpec::ParallelSharedNorm)
            }
            SiteKind::MlpUp => self.mlp.gated,
            SiteKind::HeadHidden => match self.head {
                HeadSpec::Lm { transform, project, .. } => transform.is_some() || project,
                HeadSpec::Discriminator { .. } => true,
                _ => false,
            },
            SiteKind::Pooled => self.pooler,
            SiteKind::Logits => self.head != HeadSpec::None,
            _ => true,
        }
    }
}

/// Whether `pattern` matches all of `text`. On a mismatch the last star takes one byte more, so
/// the time is at most the product of the lengths.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(byte) if *byte == b'?' || *byte == text[t] => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((at, taken)) = star else { return false };
                star = Some((at, taken + 1));
                p = at + 1;
                t = taken + 1;
            }
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}
