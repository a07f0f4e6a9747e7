import numpy as np
import pytest
import xarray as xr

import geomsae
from geomsae.labels import DictionaryIndex


@pytest.fixture
def hist(store):
    list(geomsae.compute_histograms(store))
    return store.histograms()


def test_scalars_lists_and_slices_of_any_label_select(hist):
    assert hist.sel(variant="pt").sizes["dictionary"] == 3
    assert hist.sel(model="gpt", variant="pt", layer=5)["layer"].values.tolist() == [5]
    assert hist.sel(layer=[0, 10])["layer"].values.tolist() == [0, 10]
    assert hist.sel(layer=slice(5, None), l0=slice(None, 47))["layer"].values.tolist() == [5, 5]
    assert hist.sel(l0_label="45").sizes["dictionary"] == 2
    assert hist.sel(n_features=slice(61, 62), d_model=16).sizes["dictionary"] == 2
    assert hist["count"].sel(layer=xr.DataArray([0, 5], dims="x")).sizes["dictionary"] == 3


def test_the_dimension_and_its_ids_stay(hist):
    one = hist.sel(variant="it", layer=5)
    assert one["count"].dims == ("dictionary", "cosine")
    assert one["dictionary"].values.tolist() == ["gpt/it/layer_5/width_64/l0_45"]
    assert isinstance(one.xindexes["layer"], DictionaryIndex)


def test_an_id_selects_one_dictionary_and_a_list_keeps_its_order(hist):
    ids = hist["dictionary"].values.tolist()
    assert hist.sel(dictionary=ids[1])["count"].dims == ("cosine",)
    assert hist.sel(dictionary=[ids[2], ids[0]])["dictionary"].values.tolist() == [ids[2], ids[0]]


@pytest.mark.parametrize(
    "labels", [{"layer": 7}, {"layer": [0, 7]}, {"model": "x"}, {"variant": "it", "layer": 0}]
)
def test_what_is_not_there_is_a_key_error(hist, labels):
    with pytest.raises(KeyError):
        hist.sel(**labels)


def test_inexact_labels_are_refused(hist):
    with pytest.raises(ValueError, match="exact"):
        hist.sel(layer=4, method="nearest")
    with pytest.raises(ValueError, match="step"):
        hist.sel(layer=slice(0, 10, 5))


def test_it_goes_through_zarr_and_selects_again(hist, tmp_path):
    hist.to_zarr(tmp_path / "out.zarr", consolidated=False)
    back = xr.open_zarr(tmp_path / "out.zarr", consolidated=False)
    assert back["count"].dtype == np.int64
    again = geomsae.index_dictionaries(back.load())
    xr.testing.assert_equal(again, hist)
    assert again.sel(layer=[0, 5]).sizes["dictionary"] == 3


def test_parts_are_put_together_and_aligned(hist):
    parts = [hist.sel(variant="it"), hist.sel(variant="pt")]
    joined = xr.concat(parts, dim="dictionary")
    assert joined.sel(layer=5).sizes["dictionary"] == 2
    total = hist["count"] + hist["count"].sel(variant="pt")
    assert total["dictionary"].values.tolist() == parts[1]["dictionary"].values.tolist()
    outer = xr.align(*parts, join="outer")[0]
    assert outer.sizes["dictionary"] == 4


def test_hvplot_draws_what_was_selected(hist):
    import hvplot.xarray  # noqa: F401

    curves = hist["count"].sel(variant="pt").hvplot.line(x="cosine", by="layer", groupby=[])
    assert [key for (key,) in curves.data] == [0, 5, 10]
    share = geomsae.tail_fraction(hist)
    points = share.hvplot.scatter(x="layer", y="tail_fraction", by="variant", groupby=[])
    assert {key for (key,) in points.data} == {"pt", "it"}


def test_it_works_with_the_rest_of_xarray(hist):
    assert hist.groupby("layer").sum().sizes["layer"] == 3
    frame = hist.to_dataframe().reset_index()
    assert sorted(frame["layer"].unique()) == [0, 5, 10]
    assert frame["count"].sum() == int(hist["count"].sum())
    assert hist.isel(dictionary=0)["layer"].item() == hist["layer"].values[0]
    assert hist.sortby("layer").sel(layer=0).sizes["dictionary"] == 1
    assert "DictionaryIndex" in repr(hist)
