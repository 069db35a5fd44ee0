//! Names of things: sites, neurons, rows. Every other module speaks in these.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, did_you_mean};

/// What an activation is, apart from its layer. The names are those users write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SiteKind {
    /// What enters layer 0, `[T, D]`.
    Embeddings,
    /// The embedding module's output where it is narrower than the stream (ELECTRA), `[T, E]`.
    EmbeddingsNarrow,
    /// Input of the block, `[T, D]`.
    ResidPre,
    /// Softmax output, `[H, query, key]` per sequence.
    AttnProbs,
    /// Per-head result before the output projection, `[T, H, d]`.
    HeadOut,
    /// Output of the attention projection, bias included, `[T, D]`.
    AttnOut,
    /// What attention really adds to the stream where a norm stands between (Gemma 2), `[T, D]`.
    AttnAdded,
    /// The stream between attention and MLP, `[T, D]`.
    ResidMid,
    /// Argument of the MLP's nonlinearity, `[T, F]`.
    MlpPre,
    /// After the nonlinearity, before the product with `mlp_up` in gated MLPs, `[T, F]`.
    MlpGate,
    /// The linear branch of a gated MLP, `[T, F]`.
    MlpUp,
    /// The neurons: what the down projection reads, `[T, F]`.
    MlpAct,
    /// Output of the down projection, bias included, `[T, D]`.
    MlpOut,
    /// What the MLP really adds to the stream (Gemma 2), `[T, D]`.
    MlpAdded,
    /// Output of the block, `[T, D]`.
    ResidPost,
    /// After the trunk's last norm, `[T, D]`.
    FinalNorm,
    /// Input of the head's last matrix where the head has more than one, `[T, *]`.
    HeadHidden,
    /// Pooler output of each sequence, `[S, D]`.
    Pooled,
    /// The head's output, `[T, V]` (or `[S, classes]` for sequence classification).
    Logits,
}

impl SiteKind {
    /// Every kind with the name users write, in forward order.
    pub const ALL: [(SiteKind, &'static str); 19] = [
        (SiteKind::EmbeddingsNarrow, "embeddings_narrow"),
        (SiteKind::Embeddings, "embeddings"),
        (SiteKind::ResidPre, "resid_pre"),
        (SiteKind::AttnProbs, "attn_probs"),
        (SiteKind::HeadOut, "head_out"),
        (SiteKind::AttnOut, "attn_out"),
        (SiteKind::AttnAdded, "attn_added"),
        (SiteKind::ResidMid, "resid_mid"),
        (SiteKind::MlpPre, "mlp_pre"),
        (SiteKind::MlpGate, "mlp_gate"),
        (SiteKind::MlpUp, "mlp_up"),
        (SiteKind::MlpAct, "mlp_act"),
        (SiteKind::MlpOut, "mlp_out"),
        (SiteKind::MlpAdded, "mlp_added"),
        (SiteKind::ResidPost, "resid_post"),
        (SiteKind::FinalNorm, "final_norm"),
        (SiteKind::HeadHidden, "head_hidden"),
        (SiteKind::Pooled, "pooled"),
        (SiteKind::Logits, "logits"),
    ];

    /// The name users write.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).expect("every kind has a name").1
    }

    /// Whether there is one per layer, named `layers.{i}.{name}`.
    pub fn per_layer(self) -> bool {
        !matches!(
            self,
            Self::Embeddings
                | Self::EmbeddingsNarrow
                | Self::FinalNorm
                | Self::HeadHidden
                | Self::Pooled
                | Self::Logits
        )
    }
}

/// A named activation of one model: `embeddings`, `layers.3.mlp_act`, `final_norm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Site {
    /// What it is.
    pub kind: SiteKind,
    /// Its layer, for kinds that have one per layer.
    pub layer: Option<u32>,
}

impl Site {
    /// A site that exists once.
    pub fn global(kind: SiteKind) -> Self {
        assert!(!kind.per_layer(), "{} needs a layer", kind.name());
        Self { kind, layer: None }
    }

    /// A site of one layer.
    pub fn of_layer(layer: u32, kind: SiteKind) -> Self {
        assert!(kind.per_layer(), "{} has no layer", kind.name());
        Self { kind, layer: Some(layer) }
    }

    /// The order of the forward pass: embeddings, layers in order, then what follows them.
    fn order(self) -> (u64, SiteKind) {
        match self.layer {
            Some(layer) => (u64::from(layer) + 1, self.kind),
            None if self.kind <= SiteKind::EmbeddingsNarrow => (0, self.kind),
            None => (u64::MAX, self.kind),
        }
    }
}

impl PartialOrd for Site {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Site {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order().cmp(&other.order())
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.layer {
            Some(layer) => write!(f, "layers.{layer}.{}", self.kind.name()),
            None => f.write_str(self.kind.name()),
        }
    }
}

impl FromStr for Site {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let unknown = || {
            let names = SiteKind::ALL.iter().map(|(_, name)| *name);
            let last = text.rsplit('.').next().unwrap_or(text);
            Error::config(
                format!("site '{text}'"),
                format!("no such site{}", did_you_mean(last, names)),
                "see `electrode inspect MODEL` for the sites of a model",
            )
        };
        let (layer, name) = match text.strip_prefix("layers.") {
            Some(rest) => {
                let (layer, name) = rest.split_once('.').ok_or_else(unknown)?;
                (Some(layer.parse::<u32>().map_err(|_| unknown())?), name)
            }
            None => (None, text),
        };
        let kind = SiteKind::ALL
            .iter()
            .find(|(_, candidate)| *candidate == name)
            .map(|(kind, _)| *kind)
            .ok_or_else(unknown)?;
        if kind.per_layer() != layer.is_some() {
            return Err(unknown());
        }
        Ok(Self { kind, layer })
    }
}

/// One neuron: a column of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NeuronId {
    /// Where it is.
    pub site: Site,
    /// Its column.
    pub index: u32,
}

impl fmt::Display for NeuronId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.site, self.index)
    }
}

impl FromStr for NeuronId {
    type Err = Error;

    /// `layers.3.mlp_act.17`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let (site, index) = text.rsplit_once('.').unwrap_or((text, ""));
        let index = index.parse().map_err(|_| {
            let what = "not a neuron: no number after its site";
            Error::config(format!("neuron '{text}'"), what, "write layers.3.mlp_act.17")
        })?;
        Ok(Self { site: site.parse()?, index })
    }
}

/// One scored position of a corpus: document number, and the row's place in the document.
///
/// Ordered as the corpus is, so that "lower position first" is a comparison of two integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct RowId(pub u64);

impl RowId {
    /// Bits left for the place inside a document: 16.7 million rows each.
    const PLACE_BITS: u32 = 24;
    /// The largest place inside a document; readers split longer ones.
    pub const MAX_PLACE: u64 = (1 << Self::PLACE_BITS) - 1;

    /// The row at `place` (from 0) of `document` (from 0).
    pub fn new(document: u64, place: u64) -> Self {
        assert!(place <= Self::MAX_PLACE && document < 1 << (64 - Self::PLACE_BITS));
        Self(document << Self::PLACE_BITS | place)
    }

    /// The document's number in the corpus, from 0.
    pub fn document(self) -> u64 {
        self.0 >> Self::PLACE_BITS
    }

    /// The row's place in its document, from 0: the word's number, or the token's without words.
    pub fn place(self) -> u64 {
        self.0 & Self::MAX_PLACE
    }
}
