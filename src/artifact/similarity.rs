//! The tables of `electrode similarity`.

use super::record::record;

/// File name of the table of [`SimilarityRow`].
pub const SIMILARITY: &str = "similarity.parquet";
/// File name of the table of [`PartnerRow`].
pub const PARTNERS: &str = "partners.parquet";
/// File name of the table of [`ClusterRow`].
pub const CLUSTERS: &str = "clusters.parquet";
/// File name of the table of [`RedundancyRow`].
pub const REDUNDANCY: &str = "redundancy.parquet";
/// File name of the table of [`SharedRow`].
pub const SHARED: &str = "shared.parquet";

record! {
    /// `similarity.parquet`: one row per ordered pair of sites.
    pub struct SimilarityRow {
        /// Model of the first site.
        pub model_a: String,
        /// The first site.
        pub site_a: String,
        /// Its layer, or none for sites that exist once.
        pub layer_a: Option<i32>,
        /// Model of the second site.
        pub model_b: String,
        /// The second site.
        pub site_b: String,
        /// Its layer, or none.
        pub layer_b: Option<i32>,
        /// Rows.
        pub n: i64,
        /// Linear centred kernel alignment, 0 to 1.
        pub cka: f64,
        /// The same from unbiased estimates; none with fewer than 4 rows or a constant site.
        pub cka_debiased: Option<f64>,
        /// With Gaussian kernels over the rows of a sample; none unless `similarity.rbf` asks for it.
        pub cka_rbf: Option<f64>,
        /// Mean canonical correlation of the leading directions; none with too few rows for them.
        pub svcca: Option<f64>,
        /// Canonical correlations weighted by what they say of the first site's neurons.
        pub pwcca: Option<f64>,
        /// Mean over the first site's neurons of the largest |r| with one of the second's.
        pub max_corr: f64,
        /// Mean over the first site's neurons of the multiple correlation R with all of the second's;
        /// none within a model, or with too few rows.
        pub linreg: Option<f64>,
    }
}

record! {
    /// `partners.parquet`: for each neuron, the one of each other model that is most like it.
    pub struct PartnerRow {
        /// The neuron's model.
        pub model: String,
        /// Its site.
        pub site: String,
        /// Its layer, or none.
        pub layer: Option<i32>,
        /// Column of the site.
        pub neuron: i32,
        /// The other model.
        pub other: String,
        /// The partner's site; empty for constant neurons.
        pub partner_site: String,
        /// The partner's column; none for constant neurons.
        pub partner: Option<i32>,
        /// Pearson's r with it, signed.
        pub r: f64,
        /// Multiple correlation R with all neurons of the other model's site that explains most.
        pub linreg: Option<f64>,
    }
}

record! {
    /// `clusters.parquet`: neurons of a site that say the same.
    pub struct ClusterRow {
        /// Model.
        pub model: String,
        /// Site.
        pub site: String,
        /// Layer, or none.
        pub layer: Option<i32>,
        /// Distance 1 - |r| at which the tree of joins is cut.
        pub threshold: f64,
        /// Column of the site.
        pub neuron: i32,
        /// Its cluster, from 0, by the first neuron of each.
        pub cluster: i32,
        /// The cluster's neuron of the highest mean |r| with the others.
        pub representative: i32,
    }
}

record! {
    /// `redundancy.parquet`: how many neurons others speak for, and how like the next layer is.
    pub struct RedundancyRow {
        /// Model.
        pub model: String,
        /// Site.
        pub site: String,
        /// Layer, or none.
        pub layer: Option<i32>,
        /// Neurons.
        pub neurons: i32,
        /// Distance 1 - |r| at which the tree of joins is cut.
        pub threshold: f64,
        /// Clusters.
        pub clusters: i32,
        /// 1 - clusters / neurons.
        pub redundancy: f64,
        /// Linear CKA with the site of the same kind in the next layer that was watched.
        pub cka_next: Option<f64>,
    }
}

record! {
    /// `shared.parquet`: how much of a site other models have too, as means over its neurons.
    pub struct SharedRow {
        /// Model.
        pub model: String,
        /// Site.
        pub site: String,
        /// Layer, or none.
        pub layer: Option<i32>,
        /// Neurons.
        pub neurons: i32,
        /// Mean of `xmodel-max`.
        pub max: f64,
        /// Mean of `xmodel-min`.
        pub min: f64,
        /// Mean of `xmodel-linreg`.
        pub linreg: Option<f64>,
    }
}
