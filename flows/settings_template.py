"""What a new workspace's `maskloop.toml` says: every setting, its default and what it is for."""

TEMPLATE = """\
# A maskloop workspace. Everything in this folder belongs together and moves together.
version = {version}
recipe = "nano"          # one of:
# nano, quick, detector, demo, demo-quick, vit_t, vit_b, vit_l, vit_h, paper, resnet18, resnet50

[workers]
kind = "ray"             # "ray": one model load per actor; "local": in this process
count = 0                # actors; 0: as many as there are GPUs, else processor cores
gpus = 1.0               # GPUs of an actor; 0.5: two actors share one
timeout_s = 900          # a shard that takes longer goes to another worker
ray_address = ""         # of a cluster; empty: RAY_ADDRESS, else a cluster on this machine

[project]
categories = []          # what masks show, such as ["nucleus", "debris"]; empty: any word, or none

[annotator]
host = "127.0.0.1"       # another lets other machines in: maskloop annotators add NAME comes first
port = 8765
allowed_hosts = []       # more names of this machine, as people write them in the address
deadline_h = 24.0        # how long a loop waits for people
batch_done_share = 0.75  # of a batch, answered when serve and follow train; 0: only by hand
cache_gb = 4.0           # of large pictures in tiles, in the folder cache; oldest go first

[assist]                 # which images people get, and with what; empty: as the recipe has it
propose = ""             # "grid" of points, or "detector": its boxes prompt the model
choose = ""              # "random", "uncertainty", "diversity", "coverage" or "mixture"
promise = 0.0            # of proposals, accepted as they are: 0.95 shows only those; 0: recipe's

[store]                  # where masks and models lie; maskloop store move carries them elsewhere
data = ""                # a folder, or "s3://bucket/prefix"; empty: lake, models, embeddings here
catalog = ""             # "postgresql://USER@HOST/DATABASE" for a team; empty: a file here
endpoint = ""            # of an S3 server that is not AWS's, such as "http://10.0.0.1:8333"
region = ""              # of the bucket; empty: as AWS's own settings have it
profile = ""             # of ~/.aws; empty: as AWS's own settings have it

[queue]
url = ""                 # postgresql://USER@HOST/DATABASE; empty: with the catalog, see docs

[prefect]
api_url = ""             # empty: PREFECT_API_URL, else a running `maskloop serve`, else none
port = 4200              # where `maskloop serve` starts one

[schedules]              # cron lines for `maskloop serve`; empty: only by hand or by event
merge = "*/10 * * * *"
generate = "0 2 * * *"   # every night, what has no masks by the model in service
label = ""               # names come after generate by themselves where clip.classes is set
train = ""               # training and new images for people come by themselves, see turn
assist = ""
turn = ""
refresh = ""
loop = ""

[model]
checkpoint = ""          # what recipes start from, a path or a URL; empty: docs/settings.md
sha256 = ""              # of the checkpoint; a URL needs it
device = "auto"          # "auto": a GPU where there is one; "cpu", "cuda", "cuda:1"
precision = "float32"    # of automatic masks; "bfloat16" is quicker on GPUs and CPUs made for it
text = ""                # an add-on that finds masks by text in the annotator; empty: what ships

[clip]                   # names masks, and finds them by text
model = "nano-clip"      # or an architecture of open_clip's, such as "ViT-B-32-quickgelu"
weights = ""             # a file, or a published tag such as "openai"; empty: what ships
sha256 = ""              # of the file
views = ["tight", "grey"]  # of each mask: also "context", "blur", "attention" (ViTs)
classes = ""             # a file, a class a line, which maskloop label chooses from
templates = ""           # a file, a template a line; empty: "a photo of a {{}}."
accept = 0.0             # from this probability on a name counts; 0: names are suggestions

[images]
max_pixels = 200_000_000
intensity = "range"      # 16-bit images: "range" divides by 257, "percentile" stretches 0.1 to 99.9
endpoint = ""            # of images at s3://; without any of these three: as in [store]
region = ""
profile = ""
allow_https = false      # true: lists of https addresses may be added; docs/settings.md
private_hosts = []       # hosts of such addresses that may lie in a private network
ca_file = ""             # a PEM file of certificates to trust besides the system's
max_mb = 1000            # of one image that is fetched
cache_gb = 4.0           # of fetched images, in the folder cache; oldest go first
fetch_threads = 16       # how many images are fetched at once
"""
