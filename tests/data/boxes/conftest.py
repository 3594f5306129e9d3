import json

import pytest
from PIL import Image


@pytest.fixture
def coco(tmp_path):
    """Writes a COCO file of two classes and its images, with what is given instead: `coco(annotations=...)`."""

    def written(name="instances_train.json", folder=None, draw=True, **changes):
        folder = folder or tmp_path
        content = {
            "images": [{"id": i, "file_name": f"{i}.png", "width": 40, "height": 30} for i in (5, 3, 9)],
            "annotations": [
                {
                    "id": 11,
                    "image_id": 3,
                    "category_id": 7,
                    "bbox": [2, 3, 10, 5],
                    "area": 31.5,
                    "iscrowd": 0,
                },
                {
                    "id": 12,
                    "image_id": 3,
                    "category_id": 2,
                    "bbox": [0, 0, 40, 30],
                    "area": 900,
                    "iscrowd": 1,
                },
                {"id": 13, "image_id": 5, "category_id": 2, "bbox": [1.5, 1.25, 3, 4], "area": 12},
            ],
            "categories": [{"id": 7, "name": "dog"}, {"id": 2, "name": "cat"}],
        } | changes
        for image in content["images"] if draw and isinstance(content["images"], list) else ():
            file = folder / "images" / image["file_name"]
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 30), (image["id"], 0, 255)).save(file)
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content), encoding="utf-8")
        return path

    return written


OBJECT = (
    "<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>"
    "<xmin>{box[0]}</xmin><ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"
)


@pytest.fixture
def voc(tmp_path):
    """Writes a VOC folder: `voc({"train": {"a": [("dog", (1, 2, 3, 4), 0)]}})`."""

    def written(lists, folder=None, size=(40, 30), suffix=".jpg"):
        folder = folder or tmp_path / "voc"
        for part in ("Annotations", "ImageSets/Main", "JPEGImages"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        for name, images in lists.items():
            (folder / "ImageSets" / "Main" / f"{name}.txt").write_text("\n".join(images) + "\n")
            for image, things in images.items():
                objects = "".join(OBJECT.format(name=n, box=box, difficult=d) for n, box, d in things)
                (folder / "Annotations" / f"{image}.xml").write_text(
                    f"<annotation><filename>{image}{suffix}</filename><size><width>{size[0]}</width>"
                    f"<height>{size[1]}</height><depth>3</depth></size>{objects}</annotation>"
                )
                Image.new("RGB", (40, 30)).save(folder / "JPEGImages" / f"{image}{suffix}")
        return folder

    return written
